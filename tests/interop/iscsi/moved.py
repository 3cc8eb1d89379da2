#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# store: file
# limit: 60
"""What a target says of its own accord: that LUNs have come or grown, that it wants to be left, and
where it has moved, to the raw initiator and to libiscsi, which goes there."""
import signal
import subprocess

import initiator
import zt
from initiator import Initiator, LoginRefused

IQN = "iqn.2024-01.net.zerofs:moved"
LOGOUT, DROP_SESSION = 1, 3


def sent_on(server):
    """(status, address) of a login that is refused."""
    try:
        Initiator(server.iscsi_port, IQN).login()
    except LoginRefused as refused:
        return refused.status, refused.keys.get("TargetAddress")
    return None


def told_of_changes(s):
    i = Initiator(s.iscsi_port, IQN).ready()
    s.cli("iscsi", "add-lun", IQN, "7", "1M")
    event, _, _, sense = i.event()
    assert event == 0 and sense[2] == 6 and sense[12:14] == b"\x3f\x0e", sense.hex()
    s.cli("iscsi", "resize-lun", IQN, "7", "2M")
    event, lun, _, sense = i.event()
    assert event == 0 and lun == 7 << 48 and sense[12:14] == b"\x2a\x09", sense.hex()
    i.logout()
    zt.wait_for(lambda: '"attached": 1' not in s.cli("iscsi", "info", IQN, "--json").stdout)
    s.cli("iscsi", "remove-lun", IQN, "7", "--force")


def redirected(s, other):
    i = Initiator(s.iscsi_port, IQN).ready()
    there = f"127.0.0.1:{other.iscsi_port}"
    s.cli("iscsi", "redirect", IQN, "--to", there, "--logout")
    event, _, words, _ = i.event()
    assert event == LOGOUT and words[2] > 0, words
    i.logout()
    assert sent_on(s) == (0x101, there)
    url = f"iscsi://127.0.0.1:{s.iscsi_port}/{IQN}/0"
    said = subprocess.run(["iscsi-readcapacity16", url], text=True, capture_output=True, timeout=30,
                          check=True).stdout
    assert str(32 << 20) in said or str((32 << 20) // 512 - 1) in said, said
    s.stop()
    s.start()  # it is kept
    s.cli("iscsi", "redirect", IQN, "--to", there, "--permanent")
    assert sent_on(s) == (0x102, there)
    assert there in s.cli("iscsi", "info", IQN).stdout
    # To here: who has come here is served.
    s.cli("iscsi", "redirect", IQN, "--to", f"127.0.0.1:{s.iscsi_port}")
    assert sent_on(s) is None
    s.cli("iscsi", "redirect", IQN, "--clear")
    assert sent_on(s) is None and "Redirect" not in s.cli("iscsi", "info", IQN).stdout
    assert s.cli("iscsi", "redirect", IQN, check=False).returncode == 2
    for bad in ("a b", "::1", "[::1", "[::1]x", "[1.2.3.4]", "1.2.3.4:65536", "1.2.3", "host:0"):
        assert s.cli("iscsi", "redirect", IQN, "--to", bad, check=False).returncode == 2, bad


def drained(s):
    """Who stays after having been asked to go is dropped, in so many words."""
    polite, deaf = (Initiator(s.iscsi_port, IQN).ready() for _ in range(2))
    s.process.send_signal(signal.SIGTERM)
    assert polite.event()[0] == LOGOUT and deaf.event()[0] == LOGOUT
    assert sent_on(s) == (0x101, "192.0.2.9:3260")
    assert deaf.read(0, 1) == bytes(initiator.BLOCK)  # served until it ends
    polite.logout()
    assert deaf.event()[0] == DROP_SESSION and deaf.is_dropped()
    assert s.process.wait(zt.LIMIT_S) == 0
    s.process = None


def main():
    with zt.Server("a", extra='[servers.iscsi]\ndrain_redirect = "192.0.2.9:3260"') as a, \
            zt.Server("b") as b:
        for server, size in ((a, "16M"), (b, "32M")):
            server.cli("iscsi", "create-target", IQN, "0", size)
            server.start()
        told_of_changes(a)
        redirected(a, b)
        drained(a)
        b.stop()


main()
