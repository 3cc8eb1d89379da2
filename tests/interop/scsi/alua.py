#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# compression: any (access states)
"""Access states (ALUA) of two portal groups: set by the operator and by SET TARGET PORT GROUPS,
told to everybody else, stored before the status is sent, and found again after kill -9."""
import json

import zt
from initiator import Initiator

IQN = "iqn.2024-01.net.zerofs:alua"
GOOD, CHECK = 0, 2
OPTIMIZED, NON_OPTIMIZED, STANDBY, UNAVAILABLE, OFFLINE, TRANSITIONING = 0, 1, 2, 3, 14, 15
CHANGED = (6, 0x2A06)


def sense(done):
    assert done.status == CHECK, done.status
    return done.sense[2] & 0xF, int.from_bytes(done.sense[12:14], "big")


def ready(i):
    """What TEST UNIT READY says, once the unit attentions are over."""
    seen = []
    while True:
        done = i.run(b"\0" * 6)
        if done.status == GOOD:
            return seen, None
        if sense(done)[0] != 6:
            return seen, sense(done)
        seen.append(sense(done))


def report(i, extended=False):
    """{tag: (state, preferred, status code, relative ports)}"""
    cdb = bytes([0xA3, 0x2A if extended else 0x0A, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0])
    done = i.run(cdb, 1024)
    assert done.status == GOOD, done.sense
    assert int.from_bytes(done.data[:4], "big") == len(done.data) - 4
    at, groups = 8 if extended else 4, {}
    assert not extended or done.data[4] == 0x10
    while at < len(done.data):
        d = done.data[at:]
        assert d[1] == 0xCF
        ports = [int.from_bytes(d[8 + 4 * n:12 + 4 * n], "big") for n in range(d[7])]
        groups[d[2] << 8 | d[3]] = (d[0] & 15, d[0] >> 7, d[5], ports)
        at += 8 + 4 * d[7]
    return groups


def move(i, *wanted):
    """SET TARGET PORT GROUPS: (tag, state) pairs."""
    data = b"\0\0\0\0" + b"".join(bytes([s, 0, t >> 8, t & 255]) for t, s in wanted)
    return i.run(bytes([0xA4, 0x0A, 0, 0, 0, 0, 0, 0, 0, len(data), 0, 0]), len(data), data)


def state(s, *words):
    done = s.cli("iscsi", "portal-group", "set-state", IQN, *words, "--json")
    return json.loads(done.stdout)["access_states"]


def by_command(one, two):
    assert move(one, (2, NON_OPTIMIZED), (3, STANDBY)).status == GOOD
    assert ready(one) == ([], None) and ready(two) == ([CHANGED], (2, 0x040B))
    assert two.run(bytes([0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]), 512).status == CHECK
    one.write(0, b"w" * 512)
    assert report(two) == {1: (0, 0, 0, [1]), 2: (1, 0, 1, [2]), 3: (2, 0, 1, [3])}
    assert report(two, extended=True) == report(one)
    # What nobody may ask for changes nothing.
    assert sense(move(one, (2, OPTIMIZED), (3, TRANSITIONING))) == (5, 0x2600)
    assert sense(move(one, (2, OPTIMIZED), (9, STANDBY))) == (5, 0x2600)
    assert report(one)[2][0] == NON_OPTIMIZED and ready(two) == ([], (2, 0x040B))


def by_operator(s, one, two):
    # Of the target: it takes the place of what the units had of their own.
    assert {"group": "right", "state": "optimized", "preferred": True} in \
        state(s, "right", "optimized", "--preferred", "on")
    assert ready(two) == ([CHANGED], None) and ready(one) == ([CHANGED], (2, 0x0412))
    assert two.read(0, 1) == b"w" * 512
    assert report(one)[3] == (0, 1, 2, [3])
    # Of one LUN: the other does not hear of it.
    state(s, "left", "unavailable", "--lun", "0")
    assert ready(one) == ([CHANGED], (2, 0x040C)) and ready(two) == ([CHANGED], None)
    for word, asc in (("offline", 0x0412), ("transitioning", 0x040A)):
        state(s, "left", word, "--lun", "0")
        assert ready(one)[1] == (2, asc)
    assert ready(two) == ([CHANGED], None)
    bad = s.cli("iscsi", "portal-group", "set-state", IQN, "left", "asleep", check=False)
    assert bad.returncode == 2 and "asleep" in bad.stderr


def main():
    with zt.Server() as s:
        left, right = zt.free_port(), zt.free_port()
        s.cli("iscsi", "create-target", "--iqn", IQN, "--lun", "0", "--size", "8M")
        s.cli("iscsi", "portal-group", "create", "left", "--portals", f"127.0.0.1:{left}")
        s.cli("iscsi", "portal-group", "create", "right", "--portals", f"127.0.0.1:{right}")
        # Set before there is a server, it is there when one comes.
        state(s, "right", "standby")
        s.start()
        one, two = Initiator(left, IQN).login(), Initiator(right, IQN).login()
        assert ready(one) == ([(6, 0x2900)], None) and ready(two)[1] == (2, 0x040B)
        assert move(one, (3, OPTIMIZED)).status == GOOD and ready(two)[1] is None
        by_command(one, two)
        # The status was sent: it is stored.
        assert move(one, (2, OFFLINE)).status == GOOD
        s.kill()
        s.start()
        one, two = Initiator(left, IQN).login(), Initiator(right, IQN).login()
        assert ready(one)[1] == (2, 0x0412) and ready(two)[1] == (2, 0x040B)
        by_operator(s, one, two)
        # A LUN that comes has what the target has.
        s.cli("iscsi", "add-lun", IQN, "1", "8M")
        states = json.loads(s.cli("iscsi", "export").stdout)["targets"][0]["access_states"]
        assert {"group": "left", "lun": 0, "state": "transitioning", "preferred": False} in states
        assert not any(a.get("lun") == 1 for a in states)
        s.stop()


main()
