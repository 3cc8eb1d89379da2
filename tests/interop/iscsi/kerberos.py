#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# store: file
# compression: any (it is about logins)
"""Logins by Kerberos against Debian's KDC: who is let in, under which name; that a request is good
once, for one service, at its time, and proves the target too; CHAP beside it."""
import base64
import json
import os

import chap
import krb5realm
import zt
from initiator import Initiator, LoginRefused

IQN = "iqn.2024-01.net.zerofs:krb"
HOST, SERVICE = "iqn.2024-01.test:host1", "iscsi/" + IQN
SELF = f"iscsi/{HOST}@{krb5realm.REALM}"
SECRET = "the secret of carol"


def host(s, name=HOST):
    return Initiator(s.iscsi_port, IQN, name=name)


def refused(status, step, *args, **named):
    try:
        step(*args, **named)
    except LoginRefused as e:
        assert e.status == status, (hex(e.status), hex(status))
        return
    raise AssertionError(f"let in: {args} {named}")


def rejected(s, status, request, why, name=HOST, **named):
    """A request that is refused, for a reason that the log tells."""
    i = host(s, name)
    assert krb5realm.offer(i, "KRB5") == "KRB5"
    before = s.log_text().count(why)
    refused(status, krb5realm.present, i, request, **named)
    i.close()
    assert s.log_text().count(why) == before + 1, (why, s.log_text()[-2000:])


def cli(s, *words):
    return json.loads(s.cli("iscsi", *words, "--json").stdout)


def accounts(s):
    """With the server stopped, in a volume that is not encrypted: a principal is no secret."""
    s.cli("iscsi", "create-target", IQN, "0", "8M")
    for bad in ("alice", "@R", "alice@", "al ice@R", "iscsi/@R"):
        done = s.cli("iscsi", "auth", "set", IQN, bad, "--kerberos", check=False)
        assert done.returncode == 2, (bad, done.returncode, done.stderr)
    got = cli(s, "auth", "set", IQN, SELF, "--kerberos")
    assert got["auth"]["accounts"] == [{"user": SELF, "initiator": HOST, "kerberos": True}], got
    cli(s, "auth", "set", IQN, "alice@" + krb5realm.REALM, "--kerberos", "--initiator", "*:host1")
    cli(s, "auth", "set", "discovery", "alice@" + krb5realm.REALM, "--kerberos")
    assert s.cli("iscsi", "auth", "set", IQN, "x@R", "--kerberos", "--mutual",
                 check=False).returncode == 2


def good_logins(s):
    i = krb5realm.login(host(s), krb5realm.Request(SELF, SERVICE))
    assert i.run(b"\0" * 6).status == 2  # POWER ON OCCURRED
    (one,) = cli(s, "sessions")["sessions"]
    assert one["auth"] == {"method": "KRB5", "algorithm": None, "user": SELF, "mutual": True}, one
    assert "kerberos+mutual" in s.cli("iscsi", "sessions").stdout
    i.logout()
    request = krb5realm.Request("alice", SERVICE, mutual=False)
    krb5realm.login(host(s), request, methods="SRP,KRB5,CHAP",
                   encode=lambda b: "0b" + base64.b64encode(b).decode()).logout()
    i = Initiator(s.iscsi_port, name=HOST)
    krb5realm.login(i, krb5realm.Request("alice", SERVICE), discovery=True)
    assert ("TargetName", IQN) in i.discover()
    i.close()


def bad_logins(s, realm, keytab):
    request = krb5realm.Request("alice", SERVICE)
    krb5realm.login(host(s), request).logout()
    rejected(s, 0x201, request, "Request is a replay")
    rejected(s, 0x201, krb5realm.Request("mallory", SERVICE), "mallory@ZEROFS.TEST has no account")
    rejected(s, 0x201, krb5realm.Request(SELF, SERVICE), "has no account that is good for this",
             name="iqn.2024-01.test:host2")
    rejected(s, 0x201, krb5realm.Request("alice", "iscsi/other"), "for another service")
    rejected(s, 0x201, krb5realm.Request("alice", SERVICE, skew_s=3600), "Clock skew too great")
    rejected(s, 0x201, b"\x6e" * 60000, "login of iqn.2024-01.test:noise",  # long, and nothing
             name="iqn.2024-01.test:noise")
    rejected(s, 0x200, b"\x6e" * 65537, "malformed KRB_AP_REQ", name="iqn.2024-01.test:long")
    rejected(s, 0x200, b"", "malformed KRB_AP_REQ", name="iqn.2024-01.test:short")
    os.rename(keytab, keytab + ".away")
    rejected(s, 0x300, krb5realm.Request("alice", SERVICE), "nonexistent or empty",
             "iqn.2024-01.test:away")
    os.rename(keytab + ".away", keytab)
    realm.rekey(SERVICE)
    rejected(s, 0x201, krb5realm.Request("alice", SERVICE), "login of iqn.rekeyed:host1",
             name="iqn.rekeyed:host1")
    assert json.loads(s.cli("status", "--json").stdout)["iscsi"]["auth_failures"] == 7
    realm.tool("kadmin.local", "-q", f"ktadd -k {keytab} {SERVICE}")  # no restart


def order(s):
    """Keys where they do not belong."""
    i = host(s)
    refused(0x200, chap.request, i, 0x81, [("InitiatorName", HOST), ("TargetName", IQN),
                                           ("AuthMethod", "KRB5"), ("KRB_AP_REQ", "0x6e")])
    i = host(s)
    assert krb5realm.offer(i, "KRB5") == "KRB5"
    refused(0x207, chap.request, i, 0x81, [])
    i = host(s)
    assert krb5realm.offer(i, "KRB5") == "KRB5"
    refused(0x200, chap.request, i, 0x81, [("CHAP_A", "5")])
    for methods in ("None", "CHAP", "SRP"):
        refused(0x201, krb5realm.offer, host(s), methods)
    refused(0x201, host(s).login)


def beside_chap(s):
    """The first method of the initiator's list that will do; a name is that of one account."""
    secret = os.path.join(s.dir, "secret")
    with open(secret, "w", encoding="ascii") as f:
        f.write(SECRET + "\n")
    cli(s, "auth", "set", IQN, "carol", "--secret-file", secret, "--store-in-clear")
    assert "CHAP or Kerberos" in s.cli("iscsi", "auth", "list", IQN).stdout
    assert krb5realm.offer(host(s), "CHAP,KRB5") == "CHAP"
    assert krb5realm.offer(host(s), "None,KRB5,CHAP") == "KRB5"
    one = host(s)
    chap.login(one, "carol", SECRET)
    two = krb5realm.login(host(s), krb5realm.Request("alice", SERVICE), methods="KRB5,CHAP")
    text = s.cli("iscsi", "export").stdout
    described = os.path.join(s.dir, "described.json")
    with open(described, "w", encoding="utf-8") as f:
        f.write(text)
    assert "Nothing to change" in s.cli("iscsi", "apply", described).stdout
    with open(described, "w", encoding="utf-8") as f:
        f.write(text.replace("alice@", "bob@"))
    s.cli("iscsi", "apply", described)
    assert two.is_dropped()
    one.logout()


def own_principal(s, keytab):
    """One principal for all targets, by configuration; the replay cache outlives the server."""
    cli(s, "auth", "set", IQN, "alice@" + krb5realm.REALM, "--kerberos")
    request = krb5realm.Request("alice", "iscsi/other")
    s.stop()
    s.configure(f'[servers.iscsi.kerberos]\nkeytab = "{keytab}"\nprincipal = "iscsi/other"\n')
    s.start()
    krb5realm.login(host(s), request).logout()
    rejected(s, 0x201, krb5realm.Request("alice", SERVICE), "for another service")
    s.stop()
    s.configure(f'[servers.iscsi.kerberos]\nprincipal = "iscsi/other@{krb5realm.REALM}"\n')
    s.start()
    rejected(s, 0x201, request, "Request is a replay")
    krb5realm.login(host(s), krb5realm.Request("alice", "iscsi/other")).logout()


def unconfigured(s):
    """Without a keytab the accounts still close the target."""
    s.stop()
    s.configure_without("keytab", "principal", "[servers.iscsi.kerberos]")
    s.start()
    refused(0x201, krb5realm.offer, host(s), "KRB5,None")
    assert krb5realm.offer(host(s), "KRB5,CHAP") == "CHAP"


def main():
    with krb5realm.Realm() as realm:
        keytab = realm.path("keytab")
        for name in ("alice", "mallory", SELF.split("@", maxsplit=1)[0]):
            realm.add(name)
        realm.add(SERVICE, keytab)
        realm.add("iscsi/other", keytab)
        extra = f'[encryption]\nmode = "none"\n[servers.iscsi.kerberos]\nkeytab = "{keytab}"\n'
        with zt.Server(extra=extra) as s:
            accounts(s)
            s.start()
            good_logins(s)
            bad_logins(s, realm, keytab)
            order(s)
            beside_chap(s)
            own_principal(s, keytab)
            unconfigured(s)


main()
