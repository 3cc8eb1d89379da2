#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# limit: 240
"""Who may log in, and what he sees: accounts, lists and maps, set with the server stopped and
running; what a change does to sessions that are there; what is shown of them; and that no secret
is shown."""
import json
import os
import subprocess
import time

import chap
import zt
from initiator import ASYNC, Initiator, LoginRefused

IQN = "iqn.2024-01.net.zerofs:access"
ALICE, HOST = "the secret of alice", "iqn.2024-01.test:host1"
OWN = "what the target knows"
REPORT_LUNS = b"\xa0" + bytes(8) + b"\x40" + bytes(2)


def run(s, *words, secret=None, code=0):
    done = subprocess.run([zt.ZEROFS, *words, "-c", s.config, "--json"], text=True,
                          capture_output=True, input=secret or "", timeout=120, check=False)
    assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
    assert not secret or secret.strip() not in done.stdout + done.stderr
    return json.loads(done.stdout) if done.stdout else None


def host(s, name=HOST):
    return Initiator(s.iscsi_port, IQN, name=name)


def refused(status, login, *args, **named):
    try:
        login(*args, **named)
    except LoginRefused as e:
        assert str(e) == hex(status), (str(e), hex(status))
        return
    raise AssertionError(f"logged in: {args} {named}")


def luns(i):
    data = i.run(REPORT_LUNS, 64).data
    return [data[at + 1] for at in range(8, 8 + int.from_bytes(data[:4], "big"), 8)]


def ready(i):
    while i.run(b"\0" * 6).status:
        pass
    return i


def secrets_stay_out_of_clear_volumes():
    with zt.Server("clear", extra='[encryption]\nmode = "none"\n') as s:
        s.cli("iscsi", "create-target", IQN)
        run(s, "iscsi", "auth", "set", IQN, "alice", secret=ALICE + "\n", code=6)
        run(s, "iscsi", "auth", "set", IQN, "alice", "--store-in-clear", secret=ALICE + "\n")


def accounts(s):
    """With the server stopped."""
    s.cli("iscsi", "create-target", IQN, "0", "8M")
    for lun in "12":
        s.cli("iscsi", "add-lun", IQN, lun, "8M")
    clear = ["--store-in-clear"]
    for bad in ("short", "e" * 11, "x" * 256):
        run(s, "iscsi", "auth", "set", IQN, "alice", *clear, secret=bad + "\n", code=2)
    run(s, "iscsi", "auth", "set", IQN, *clear, secret=ALICE, code=2)
    got = run(s, "iscsi", "auth", "set", IQN, "alice", *clear, secret=ALICE)
    assert got["auth"]["accounts"] == [{"user": "alice", "initiator": "*"}], got
    run(s, "iscsi", "auth", "set", IQN, "target", "--mutual", *clear, secret=ALICE, code=2)
    own = os.path.join(s.dir, "own")
    with open(own, "w", encoding="ascii") as f:
        f.write(OWN + "\n")
    run(s, "iscsi", "auth", "set", IQN, "target", "--mutual", *clear, "--secret-file", own)
    run(s, "iscsi", "auth", "set", "discovery", "finder", *clear, secret=ALICE[::-1])
    run(s, "iscsi", "auth", "minimum", IQN, "md4", code=2)
    got = run(s, "iscsi", "auth", "list")
    assert [t["iqn"] for t in got["targets"]] == ["discovery", IQN], got
    run(s, "iscsi", "acl", "add", IQN, "iqn.2024-01.test:host*", "--address", "127.0.0.0/8")
    run(s, "iscsi", "acl", "add", IQN, "x", "--address", "127.0.0.1/8", code=2)


def logins(s):
    for algorithm in (5, 6, 7, 8):
        i = host(s)
        assert chap.login(i, "alice", ALICE, str(algorithm), ("target", OWN)) == algorithm
        i.logout()
    i = host(s)
    assert chap.login(i, "alice", ALICE, "6,5,8,7") == 8
    i.logout()
    refused(0x201, chap.login, host(s), "alice", "not the secret")
    refused(0x201, chap.login, host(s), "bob", ALICE)
    refused(0x201, chap.login, host(s), "alice", ALICE, "4")
    refused(0x201, chap.login, host(s), "alice", ALICE, reflect=True)
    refused(0x201, host(s).login)
    refused(0x202, chap.login, host(s, "iqn.2024-01.test:stranger"), "alice", ALICE)
    status = run(s, "status")["iscsi"]
    assert status["auth_failures"] == 3, status
    assert "127.0.0.1" in s.log_text() and "wrong name or secret" in s.log_text()


def libiscsi(s):
    """Its tools know MD5 only."""
    run(s, "iscsi", "auth", "set", IQN, "tool", "--store-in-clear", secret="libiscsi-has-one")

    def inquire(secret, query=""):
        url = f"iscsi://tool%{secret}@127.0.0.1:{s.iscsi_port}/{IQN}/0{query}"
        return subprocess.run(["iscsi-inq", "-i", HOST, url], text=True, capture_output=True,
                              timeout=60, check=False)

    assert "ZEROFS" in inquire("libiscsi-has-one").stdout
    assert "ZEROFS" not in inquire("libiscsi-has-two").stdout
    run(s, "iscsi", "auth", "remove", IQN, "tool")


def discovery(s):
    refused(0x201, host(s).login, "Discovery")
    for name, sees in ((HOST, True), ("iqn.2024-01.test:stranger", False)):
        i = Initiator(s.iscsi_port, name=name)
        chap.login(i, "finder", ALICE[::-1], discovery=True)
        assert (("TargetName", IQN) in i.discover()) == sees
        i.close()


def sessions(s):
    i = host(s)
    chap.login(i, "alice", ALICE, "7", ("target", OWN))
    ready(i)
    (one,) = run(s, "iscsi", "sessions")["sessions"]
    assert one["initiator"] == HOST and one["target"] == IQN and one["tsih"] == i.tsih, one
    assert one["isid"] == i.isid.hex() and one["address"].startswith("127.0.0.1:"), one
    assert one["auth"] == {"method": "CHAP", "algorithm": "sha256", "user": "alice",
                           "mutual": True}, one
    assert one["commands"] > 0 and one["connections"] == 1 and not one["data_digest"], one
    assert HOST in s.cli("iscsi", "sessions").stdout
    run(s, "iscsi", "disconnect", IQN, "iqn.2024-01.test:other", code=4)
    run(s, "iscsi", "disconnect", IQN, HOST)
    assert i.receive().opcode == ASYNC and i.is_dropped()
    zt.wait_for(lambda: run(s, "iscsi", "sessions")["sessions"] == [])


def changes_end_sessions(s):
    other = "iqn.2024-01.test:host2"
    run(s, "iscsi", "acl", "add", IQN, other)
    one, two = host(s), host(s, other)
    chap.login(one, "alice", ALICE)
    chap.login(two, "alice", ALICE)
    got = run(s, "iscsi", "acl", "remove", IQN, "iqn.2024-01.test:host*", "--address",
              "127.0.0.0/8")
    assert got["disconnected"] == 1, got
    assert one.is_dropped()
    ready(two)
    run(s, "iscsi", "acl", "remove", IQN, other, code=6)  # the last one
    run(s, "iscsi", "acl", "remove", IQN, other, "--force")
    ready(two)
    got = run(s, "iscsi", "auth", "minimum", IQN, "sha3-256")
    assert got["disconnected"] == 0, got
    refused(0x201, chap.login, host(s), "alice", ALICE, "5,6,7")
    run(s, "iscsi", "auth", "remove", IQN, "alice", code=6)
    run(s, "iscsi", "auth", "set", IQN, "bob", "--store-in-clear", secret="the secret of bob")
    assert run(s, "iscsi", "auth", "remove", IQN, "alice")["disconnected"] == 1
    assert two.is_dropped()
    run(s, "iscsi", "auth", "remove", IQN, "bob", "--force")
    run(s, "iscsi", "auth", "remove", IQN, "--mutual")
    host(s).login().logout()


def maps(s):
    i = host(s).ready()
    assert luns(i) == [0, 1, 2]
    run(s, "iscsi", "map", "add", IQN, HOST, "7", "--device", "9", code=4)
    run(s, "iscsi", "map", "add", IQN, HOST, "0", "--device", "2")
    run(s, "iscsi", "map", "add", IQN, HOST, "5", "--device", "1", "--read-only")
    run(s, "iscsi", "map", "add", IQN, HOST, "6", "--device", "1", code=5)
    zt.wait_for(lambda: luns(i) == [0, 5])
    assert luns(host(s, "iqn.2024-01.test:other").login()) == []
    run(s, "iscsi", "map", "remove", IQN, HOST, "0")
    zt.wait_for(lambda: luns(i) == [5])
    run(s, "iscsi", "map", "remove", IQN, HOST, "5", code=6)
    run(s, "iscsi", "map", "remove", IQN, HOST, "5", "--force")
    zt.wait_for(lambda: luns(i) == [0, 1, 2])
    i.logout()


def survives(s):
    run(s, "iscsi", "auth", "set", IQN, "carol", "--store-in-clear", secret="carol's own secret")
    s.stop()
    s.start()
    i = host(s)
    chap.login(i, "carol", "carol's own secret")
    i.logout()
    run(s, "iscsi", "delete-target", IQN, "--force", "--disconnect")
    s.cli("iscsi", "create-target", IQN)
    host(s).login().logout()


def guessing(s):
    s.cli("iscsi", "create-target", IQN + "2")
    run(s, "iscsi", "auth", "set", IQN + "2", "dave", "--store-in-clear", secret=ALICE)
    begin = time.monotonic()
    for n in range(7):
        i = Initiator(s.iscsi_port, IQN + "2", name="iqn.2024-01.test:guesser")
        refused(0x201, chap.login, i, "dave", f"guess number {n}")
    assert time.monotonic() - begin > 3
    begin = time.monotonic()
    chap.login(Initiator(s.iscsi_port, IQN + "2", name="iqn.2024-01.test:other"), "dave", ALICE)


def not_anothers(s):
    """Who has an account of his own, good for the same initiator, neither ends nor joins a session
    of somebody else's."""
    run(s, "iscsi", "auth", "set", IQN + "2", "erin", "--store-in-clear", secret=OWN)
    one = Initiator(s.iscsi_port, IQN + "2")
    chap.login(one, "dave", ALICE)
    for tsih in 0, one.tsih:
        i = Initiator(s.iscsi_port, IQN + "2", isid=one.isid)
        i.tsih_asked = tsih
        refused(0x202, chap.login, i, "erin", OWN)
    assert one.nop(b"still here").data == b"still here"
    chap.login(Initiator(s.iscsi_port, IQN + "2", isid=one.isid), "dave", ALICE)
    assert one.is_dropped()


def main():
    secrets_stay_out_of_clear_volumes()
    with zt.Server() as s:
        accounts(s)
        s.start()
        logins(s)
        libiscsi(s)
        discovery(s)
        sessions(s)
        changes_end_sessions(s)
        maps(s)
        survives(s)
        guessing(s)
        not_anothers(s)
        with open(s.log, encoding="utf-8") as f:
            text = f.read()
        for secret in (ALICE, OWN, "carol's own"):
            assert secret not in text and secret.encode().hex() not in text


main()
