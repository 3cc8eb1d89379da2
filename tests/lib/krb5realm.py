# SPDX-License-Identifier: Apache-2.0
"""A realm of Kerberos for tests: Debian's krb5-kdc as an ordinary program on a port of its own,
with everything in one folder; and the initiator's side of AuthMethod=KRB5, by libkrb5.

    with Realm() as realm:                       # the environment of the test is the realm's
        realm.add("alice")
        realm.add("iscsi/" + IQN, keytab=path)
        with zt.Server(extra=...) as s:
            request = Request(realm, "alice", "iscsi/" + IQN)
            login(i, request)
"""
import ctypes
import os
import subprocess

import chap
import zt
from ports import free_port

REALM = "ZEROFS.TEST"
MUTUAL_REQUIRED = 0x20000000
PASSWORD = "the password of everybody"


class Realm:
    def __init__(self):
        self.dir = os.path.join(zt.TMPDIR, "realm")
        os.makedirs(self.dir)
        self.port, self.process = free_port(), None
        with open(self.path("krb5.conf"), "w", encoding="utf-8") as f:
            f.write(f"""\
[libdefaults]
default_realm = {REALM}
dns_lookup_kdc = false
dns_lookup_realm = false
dns_canonicalize_hostname = false
rdns = false
[realms]
{REALM} = {{
    kdc = 127.0.0.1:{self.port}
}}
""")
        with open(self.path("kdc.conf"), "w", encoding="utf-8") as f:
            f.write(f"""\
[realms]
{REALM} = {{
    database_name = {self.path("principal")}
    key_stash_file = {self.path("stash")}
    acl_file = {self.path("acl")}
    kdc_listen = 127.0.0.1:{self.port}
    kdc_tcp_listen = 127.0.0.1:{self.port}
}}
[logging]
kdc = FILE:{self.path("kdc.log")}
""")
        os.environ.update(KRB5_CONFIG=self.path("krb5.conf"),
                          KRB5_KDC_PROFILE=self.path("kdc.conf"),
                          KRB5RCACHENAME="file2:" + self.path("replays"))

    def path(self, name):
        return os.path.join(self.dir, name)

    @staticmethod
    def tool(*words):
        path = os.environ["PATH"] + ":/usr/sbin:/sbin"
        done = subprocess.run(words, text=True, capture_output=True, timeout=zt.LIMIT_S,
                              stdin=subprocess.DEVNULL, check=False,
                              env={**os.environ, "PATH": path})
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def add(self, name, keytab=None):
        """A principal; with a random key, which goes to the keytab, or with PASSWORD."""
        if keytab:
            self.tool("kadmin.local", "-q", f"addprinc -randkey {name}")
            self.tool("kadmin.local", "-q", f"ktadd -k {keytab} {name}")
        else:
            self.tool("kadmin.local", "-q", f'addprinc -pw "{PASSWORD}" {name}')

    def rekey(self, name):
        """What lies in keytabs is the old key then."""
        self.tool("kadmin.local", "-q", f"cpw -randkey {name}")

    def __enter__(self):
        self.tool("kdb5_util", "create", "-s", "-W", "-P", PASSWORD, "-r", REALM)
        self.process = subprocess.Popen(["/usr/sbin/krb5kdc", "-n"], stdin=subprocess.DEVNULL)

        def ready():
            assert self.process.poll() is None, "the KDC has ended"
            with open("/proc/net/tcp", encoding="ascii") as f:
                return any(f":{self.port:04X} 00000000:0000 0A" in line for line in f)

        zt.wait_for(ready)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


class Data(ctypes.Structure):
    _fields_ = [("magic", ctypes.c_int32), ("length", ctypes.c_uint32), ("data", ctypes.c_void_p)]


class Creds(ctypes.Structure):
    """krb5_creds: what is needed of it, and room for the rest."""
    _fields_ = [("magic", ctypes.c_int32), ("client", ctypes.c_void_p), ("server", ctypes.c_void_p),
                ("rest", ctypes.c_char * 512)]


class Lib:
    """Calls of libkrb5 by name: lib.parse_name(...) is krb5_parse_name(context, ...), and must
    succeed."""

    def __init__(self, skew_s=0):
        self.so = ctypes.CDLL("libkrb5.so.3")
        self.context = ctypes.c_void_p()
        assert self.so.krb5_init_context(ctypes.byref(self.context)) == 0
        if skew_s:
            now, ms = ctypes.c_int32(), ctypes.c_int32()
            self.us_timeofday(ctypes.byref(now), ctypes.byref(ms))
            self.set_real_time(now.value + skew_s, 0)

    def __getattr__(self, name):
        function = getattr(self.so, "krb5_" + name)

        def call(*args):
            code = function(self.context, *args)
            if code:
                text = self.so.krb5_get_error_message
                text.restype = ctypes.c_char_p
                raise OSError(f"krb5_{name}: {text(self.context, ctypes.c_int32(code)).decode()}")

        return call


class Request:
    """A KRB_AP_REQ of that client for that service. skew_s: the client's clock is wrong."""

    def __init__(self, client, service, mutual=True, skew_s=0):
        lib = Lib()
        creds, wanted, got = Creds(), Creds(), ctypes.c_void_p()
        principal, server, cache = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        lib.parse_name(client.encode(), ctypes.byref(principal))
        lib.parse_name(service.encode(), ctypes.byref(server))
        lib.get_init_creds_password(ctypes.byref(creds), principal, PASSWORD.encode(), None, None,
                                    0, None, None)
        lib.cc_new_unique(b"MEMORY", None, ctypes.byref(cache))
        lib.cc_initialize(cache, principal)
        lib.cc_store_cred(cache, ctypes.byref(creds))
        wanted.client, wanted.server = principal, server
        lib.get_credentials(0, cache, ctypes.byref(wanted), ctypes.byref(got))
        self.lib, self.auth, out = Lib(skew_s), ctypes.c_void_p(), Data()
        self.lib.mk_req_extended(ctypes.byref(self.auth), MUTUAL_REQUIRED if mutual else 0, None,
                                 got, ctypes.byref(out))
        self.bytes, self.mutual = ctypes.string_at(out.data, out.length), mutual

    def check(self, reply):
        """Raises when the KRB_AP_REP is not that of the service."""
        buffer, part = ctypes.create_string_buffer(reply, len(reply)), ctypes.c_void_p()
        data = Data(0, len(reply), ctypes.cast(buffer, ctypes.c_void_p))
        self.lib.rd_rep(self.auth, ctypes.byref(data), ctypes.byref(part))


def offer(i, methods, discovery=False):
    """The first step: what the target chooses."""
    names = [("InitiatorName", i.name), ("SessionType", "Discovery" if discovery else "Normal")]
    if not discovery:
        names.append(("TargetName", i.iqn))
    return chap.request(i, 0x81, names + [("AuthMethod", methods)])["AuthMethod"]


def present(i, request, encode=lambda b: "0x" + b.hex(), flags=0x83):
    """The second step, with bytes or a Request: the keys of the answer."""
    data = request if isinstance(request, bytes) else request.bytes
    return chap.request(i, flags, [("KRB_AP_REQ", encode(data))])


def login(i, request, discovery=False, methods="KRB5,None", **named):
    """Through security to full feature phase."""
    assert offer(i, methods, discovery) == "KRB5" and i.login_flags == 0
    got = present(i, request, **named)
    assert i.login_flags == 0x83 and ("KRB_AP_REP" in got) == request.mutual, got
    if request.mutual:
        request.check(chap.binary(got["KRB_AP_REP"]))
    i.itt += 1
    i.agreed["InitialR2T"] = "Yes"
    return i
