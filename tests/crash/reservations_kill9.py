#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# compression: any (what is stored is a record)
"""Persistent reservations over kill -9: with APTPL what was answered is there again, and what was
not yet answered has happened or not; without it a start of the server begins anew. The operator
sees and clears them, with the server running or not."""
import json
import os
import random

import reserve
import zt
from initiator import Initiator
from reserve import APTPL, CONFLICT, EA_RO, GOOD, RESERVE, REGISTER, WE_AR, WE_RO

SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))
ROUNDS = 60 if zt.SOAK else 3 if zt.BRIEF else 6
KEPT, DROPPED = "iqn.2024-01.net.zerofs:kept", "iqn.2024-01.net.zerofs:dropped"
A, B, C = "iqn.2024-01.test:a", "iqn.2024-01.test:b", "iqn.2024-01.test:c"
WRITE = b"\x2a" + bytes(7) + b"\x01\x00"


def connect(s, iqn, name, isid=b"\x80\0\0\0\0\1"):
    return Initiator(s.iscsi_port, iqn, name=name, isid=isid).ready()


def writes(i):
    return i.run(WRITE, out=bytes(512)).status


def change(rnd, i, state):
    """Something of the initiator's that is allowed, so that state is another one."""
    me = (i.name + ",i,0x800000000001", 1)
    kind, found = state
    key = found.get(me, (0, False))[0]
    if not key or rnd.random() < 0.4:
        assert reserve.out(i, reserve.REGISTER_IGNORE, 0, 0, rnd.randrange(1, 1 << 64), APTPL) == 0
    elif kind == 0:
        assert reserve.out(i, RESERVE, rnd.choice((WE_RO, EA_RO, WE_AR)), key, 0) == GOOD
    elif rnd.random() < 0.5:
        assert reserve.out(i, reserve.RELEASE, kind, key, 0) in (GOOD, reserve.CHECK_CONDITION)
    else:
        other = rnd.choice([k for k, _ in found.values()])
        reserve.out(i, reserve.PREEMPT_ABORT, WE_RO, key, other)


def one_round(s, rnd, answered):
    ends = [connect(s, KEPT, name) for name in (A, B)]
    for _ in range(4):
        i = rnd.choice(ends)
        change(rnd, i, reserve.status_of(i))
        for end in ends:  # attentions that the other end was given
            while end.run(bytes(6)).status:
                pass
    # One that is known to be registered changes its key, and the server dies, perhaps before it
    # has answered.
    assert reserve.out(ends[0], reserve.REGISTER_IGNORE, 0, 0, 77, APTPL) == GOOD
    kind, before = reserve.status_of(ends[0])
    me = (A + ",i,0x800000000001", 1)
    after = dict(before)
    after[me] = (78, before[me][1])
    data = reserve.list_of(77, 78, APTPL)
    itt = ends[0].begin(reserve.cdb_of(REGISTER, 0), 24, data)
    if answered:
        assert ends[0].finish(itt, data).status == GOOD
    s.kill()
    s.start()
    for end in ends:
        end.close()
    i = connect(s, KEPT, C)
    found = reserve.status_of(i)
    assert found == (kind, after) or (not answered and found == (kind, before)), (found, before)
    i.close()
    return "after" if found[1] == after else "before"


def without_aptpl(s):
    i, other = connect(s, DROPPED, A), connect(s, DROPPED, B)
    assert reserve.out(i, REGISTER, 0, 0, 5) == GOOD
    assert reserve.out(i, RESERVE, WE_RO, 5, 0) == GOOD
    i.close()
    assert writes(other) == CONFLICT  # the session is not what holds it
    again = connect(s, DROPPED, A)
    assert writes(again) == GOOD and writes(connect(s, DROPPED, A, b"\x80\0\0\0\0\2")) == CONFLICT
    s.kill()
    s.start()
    assert reserve.status_of(connect(s, DROPPED, B)) == (0, {})


def listed(s, *words, what="list"):
    return json.loads(s.cli("iscsi", "reservations", what, *words, "--json").stdout)


def by_the_operator(s):
    i, other = connect(s, KEPT, A), connect(s, KEPT, B)
    assert reserve.out(i, reserve.REGISTER_IGNORE, 0, 0, 0xABC, APTPL) == GOOD
    while other.run(bytes(6)).status:
        pass
    reserve.out(i, reserve.CLEAR, 0, 0xABC, 0)
    while other.run(bytes(6)).status:
        pass
    assert reserve.out(i, REGISTER, 0, 0, 0xABC, APTPL) == GOOD
    assert reserve.out(i, RESERVE, EA_RO, 0xABC, 0) == GOOD
    want = {"iqn": KEPT, "lun": 0, "persistent": True,
            "type": "exclusive-access-registrants-only",
            "registrations": [{"initiator": A, "isid": "800000000001", "target_port": 1,
                               "key": "0x0000000000000abc", "holder": True, "attached": True}]}
    lun = listed(s)["luns"][0]
    assert lun.pop("generation") > 0 and lun == want, lun
    assert listed(s, KEPT, "0")["luns"][0]["type"] == want["type"]
    assert listed(s, DROPPED) == {"luns": []} and "none" in s.cli(
        "iscsi", "reservations", "list", DROPPED, "0").stdout
    said = s.cli("iscsi", "reservations", "list").stdout
    assert "0x0000000000000abc" in said and "holder" in said, said
    s.stop()
    want["registrations"][0]["attached"] = False
    lun = listed(s)["luns"][0]
    assert lun.pop("generation") == 0 and lun == want, lun
    s.start()
    other = connect(s, KEPT, B)
    assert writes(other) == CONFLICT
    i = connect(s, KEPT, A)
    assert s.cli("iscsi", "reservations", "clear", KEPT, "0", check=False).returncode == 6
    assert writes(other) == CONFLICT
    gone = listed(s, KEPT, "0", "--force", what="clear")["cleared"][0]
    assert gone["registrations"][0]["key"] == "0x0000000000000abc"
    assert i.run(bytes(6)).sense[12:14] == b"\x2a\x03" and writes(other) == GOOD
    # Stopped, too; and a LUN of the same number that is made anew has none.
    assert reserve.out(i, REGISTER, 0, 0, 1, APTPL) == GOOD
    s.stop()
    listed(s, KEPT, "0", "--force", what="clear")
    assert listed(s) == {"luns": []}
    s.start()
    i = connect(s, KEPT, A)
    assert reserve.out(i, REGISTER, 0, 0, 1, APTPL) == GOOD
    s.cli("iscsi", "remove-lun", KEPT, "0", "--force", "--disconnect")
    s.cli("iscsi", "add-lun", KEPT, "0", "1M")
    assert reserve.status_of(connect(s, KEPT, B)) == (0, {})


def main():
    print("seed", SEED, flush=True)
    rnd = random.Random(SEED)
    with zt.Server() as s:
        for iqn in (KEPT, DROPPED):
            s.cli("iscsi", "create-target", "--iqn", iqn, "--lun", "0", "--size", "1M")
        s.start()
        for number in range(ROUNDS):
            print(f"round {number}: {one_round(s, rnd, number % 2 == 0)}", flush=True)
        without_aptpl(s)
        by_the_operator(s)
        s.stop()


main()
