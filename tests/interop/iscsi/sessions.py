#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# compression: any (sessions, which hold no data)
"""Many sessions: idle ones cost little, one nexus has one session however hard its initiator
knocks, and a server that ends asks them all to log out."""
import resource
import threading
import time

import initiator
import zt
from initiator import Initiator, LoginRefused

IQN = "iqn.2024-01.net.zerofs:sessions"
IDLE = 10000 if zt.SOAK else 2000
IDLE_KIB = 20  # what an idle session may cost, all in all


def idle_sessions(s):
    warm = [Initiator(s.iscsi_port, IQN).ready() for _ in range(50)]
    for i in warm:
        i.logout()
    before = s.used_kib()
    held = []
    for n in range(IDLE):
        i = Initiator(s.iscsi_port, IQN, name=f"iqn.2024-01.test:idle{n}")
        held.append(i.login())
    # The receive buffer of a session that has just been busy is given back after a second.
    zt.wait_for(lambda: (s.used_kib() - before) / IDLE < IDLE_KIB, every_s=0.3)
    print(f"{IDLE} idle sessions: {(s.used_kib() - before) / IDLE:.1f} KiB each")
    assert held[0].nop().data == b"ping" and held[-1].nop().data == b"ping"
    for i in held:
        i.close()


def one_nexus(s):
    """Eight threads log in as one and the same, again and again, while each does I/O."""
    ends_at = time.monotonic() + (30 if zt.SOAK else 4)
    isid, wins, strange = b"\x80same.", [], []

    def knock():
        while time.monotonic() < ends_at:
            try:
                i = Initiator(s.iscsi_port, IQN, name="iqn.2024-01.test:same", isid=isid).login()
                wins.append(1)
                for n in range(20):
                    i.run(b"\x2a" + bytes(6) + bytes([0, 8, 0]), out=b"w" * 4096)
            except (EOFError, ConnectionError, LoginRefused, AssertionError):
                pass
            except Exception as e:  # whatever else it is, it is told
                strange.append(repr(e))

    threads = [threading.Thread(target=knock) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not strange, strange
    print(len(wins), "logins won")
    assert len(wins) > 8
    last = Initiator(s.iscsi_port, IQN, name="iqn.2024-01.test:same", isid=isid).ready()
    data = b"survivor" * 512
    last.write(0, data)
    assert last.read(0, 8) == data
    last.logout()


def drained(s):
    """SIGTERM: each session is asked to log out, and the end is clean."""
    polite = [Initiator(s.iscsi_port, IQN).ready() for _ in range(20)]
    deaf = Initiator(s.iscsi_port, IQN).ready()

    def leave():
        for i in polite:
            pdu = i.receive()
            assert pdu.opcode == initiator.ASYNC and pdu.bhs[36] == 1, pdu.bhs
            i.logout()

    t = threading.Thread(target=leave)
    t.start()
    begin = time.monotonic()
    s.stop()
    took = time.monotonic() - begin
    t.join()
    assert took < 45, took
    assert deaf.is_dropped()


def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    del soft
    with zt.Server() as s:
        s.cli("iscsi", "create-target", "--iqn", IQN, "--lun", "0", "--size", "64M")
        s.start()
        idle_sessions(s)
        one_nexus(s)
        drained(s)


main()
