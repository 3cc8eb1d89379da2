#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# store: s3
"""The whole memory of a running server is searched for what it was told in secret: the password,
a new one that came by the admin socket, the keys of the store from the configuration, from the
environment and from a metadata service; and the secrets of CHAP, which come by the admin socket and
out of the volume. It lies in locked pages that no dump holds, and nowhere
else; and the server cannot be dumped at all."""
import datetime
import http.server
import json
import os
import re
import threading

import chap
import nbd
import s3stub
import zt
from initiator import Initiator

PASSWORD, CHANGED = "first-Thoo5eekai2u-password", "other-ooRaik8ahL7c-password"
KEYS = {"configuration": ("AKIDCONF", "cfg/ohw1Daez6shaeZ9-secret+key", "cfg.ieYai4oopheiJ2.token"),
        "environment": ("AKIDENV", "env/Eemah2ooch7aePh-secret+key", "env.uu0Oeshoh3eiKe.token"),
        "service": ("AKIDSERVICE", "srv/eiQu4ahR9ae1Aeb-secret+key", "srv.Ahxoh5aeGh4oos.token")}
IQN = "iqn.2024-01.net.zerofs:memory"
INITIATOR, OWN = "chap-EeGh2ohquee5-initiator", "chap-Wi9taiyaeph7-target"
# Another user than root, who may do what the test's folders need.
CAPS = "+dac_override,+ipc_lock"
USER = ["setpriv", "--reuid=65534", "--clear-groups", f"--inh-caps={CAPS}",
        f"--ambient-caps={CAPS}"]


class Service(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        key, secret, token = KEYS["service"]
        ends = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=6)
        body = json.dumps({"AccessKeyId": key, "SecretAccessKey": secret, "Token": token,
                           "Expiration": ends.strftime("%Y-%m-%dT%H:%M:%SZ")}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


def mappings(pid):
    """(begin, end, what, flags) of all that can be read."""
    at = None
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as f:
        for line in f:
            head = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)", line)
            if head:
                at = (int(head[1], 16), int(head[2], 16), head[4]) if head[3][0] == "r" else None
            elif line.startswith("VmFlags:") and at:
                yield (*at, line.split()[1:])


def holders(pid, needles):
    """(needle, where) of each copy that lies outside of locked and undumped pages; and how many
    lie inside."""
    outside, inside = [], {needle: 0 for needle in needles}
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for begin, end, name, flags in mappings(pid):
            if name in ("[vvar]", "[vsyscall]", "[vdso]"):
                continue
            try:
                data = os.pread(memory.fileno(), end - begin, begin)
            except OSError:
                continue
            safe = "lo" in flags and "dd" in flags
            for needle in needles:
                n = data.count(needle)
                inside[needle] += n if safe else 0
                if n and not safe:
                    at = data.find(needle)
                    outside.append((needle.decode(), name, hex(begin + at), data[at - 40:at + 60]))
    return outside, inside


def use(s):
    h = nbd.NBD()
    h.set_export_name("disk")
    h.connect_unix(s.nbd_socket)
    h.pwrite(bytes(range(256)) * 256, 0)
    h.flush()
    h.shutdown()


def check(s, secret, token, passwords):
    words = [*passwords, INITIATOR, OWN]
    needles = [secret.encode(), token.encode(), *(p.encode() for p in words),
               *(p.encode().hex().encode() for p in words)]
    found = []

    def clean():
        """A request that is on its way has the token in its headers: until it is answered."""
        found[:] = holders(s.process.pid, needles)
        return not found[0]

    try:
        zt.wait_for(clean, every_s=0.5)
    except AssertionError as e:
        raise AssertionError(found[0]) from e
    inside = found[1]
    # The kernel gives the files of a process that cannot be dumped to root.
    assert os.stat(f"/proc/{s.process.pid}/maps").st_uid == 0, "the server can be dumped"
    assert inside[secret.encode()], "the key that signs is nowhere: the search is blind"
    assert inside[token.encode()]
    assert inside[INITIATOR.encode()] and inside[OWN.encode()]


def secret_file(s, secret):
    path = os.path.join(s.dir, "new")
    with open(path, "w", encoding="ascii") as f:
        f.write(secret + "\n")
    os.chmod(path, 0o600)
    return path


def use_chap(s, sets):
    """Accounts are set, exported and applied, and somebody logs in."""
    if sets:
        for words, secret in ((["alice"], INITIATOR), (["target", "--mutual"], OWN)):
            s.cli("iscsi", "auth", "set", IQN, *words, "--secret-file", secret_file(s, secret))
        described = os.path.join(s.dir, "described.json")
        s.cli("iscsi", "export", described, "--with-secrets")
        with open(described, encoding="utf-8") as f:
            assert INITIATOR.encode().hex() in f.read()
        s.cli("iscsi", "apply", described)
    i = Initiator(s.iscsi_port, IQN)
    chap.login(i, "alice", INITIATOR, mutual=("target", OWN))
    i.logout()


def life(stub, s, where, env, passwords):
    key, secret, token = KEYS[where]
    stub.keys = {key: (secret, token)}
    os.environ.update(env)
    s.start()
    for name in env:
        del os.environ[name]
    use(s)
    use_chap(s, sets=where == "configuration")
    for password in passwords[1:]:
        s.cli("change-password", "--new-password-file", secret_file(s, password))
        s.configure(f'[encryption]\npassword = "{password}"')
    s.cli("nbd", "list")
    check(s, secret, token, passwords)
    s.stop()
    said = s.log_text()
    words = (secret, token, *passwords, INITIATOR, OWN)
    assert not any(word in said for word in words), "a secret is in the log"


def main():
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    key, secret, token = KEYS["configuration"]
    with s3stub.Stub() as stub:
        stub.keys = {key: (secret, token)}
        extra = (f'[aws]\naccess_key_id = "{key}"\nsecret_access_key = "{secret}"\n'
                 f'session_token = "{token}"\n[encryption]\npassword = "{PASSWORD}"\n'
                 '[runtime]\nlog_level = "debug"\n')
        wrap = USER if os.geteuid() == 0 else []
        with zt.Server("s", "s3://bucket/s", extra, wrap, endpoint=stub.endpoint) as s:
            s.cli("nbd", "create", "disk", "4M")
            s.cli("iscsi", "create-target", IQN, "0", "4M")
            life(stub, s, "configuration", {}, [PASSWORD, CHANGED])
            s.configure_without("access_key_id", "secret_access_key", "session_token")
            key, secret, token = KEYS["environment"]
            life(stub, s, "environment",
                 {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret,
                  "AWS_SESSION_TOKEN": token}, [CHANGED])
            url = f"http://127.0.0.1:{web.server_address[1]}/credentials"
            life(stub, s, "service", {"AWS_CONTAINER_CREDENTIALS_FULL_URI": url}, [CHANGED])


main()
