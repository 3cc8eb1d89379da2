#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# compression: any (addresses)
"""Portals over IPv4 and IPv6, and what SendTargets gives for them: the address at which the client
came, or what the configuration says, also after it was read again."""
import signal
import subprocess

import zt
from initiator import Initiator

IQN = "iqn.2024-01.net.zerofs:portals"


def configure(s, advertise):
    with open(s.config, encoding="utf-8") as f:
        lines = [line for line in f.read().splitlines() if not line.startswith("advertise")]
    at = lines.index("[servers.iscsi]") + 1
    lines[at] = (f'addresses = ["127.0.0.1:{s.iscsi_port}", "[::1]:{s.second}", '
                 f'"0.0.0.0:{s.third}"]')
    if advertise:
        lines.insert(at, "advertise = [" + ", ".join(f'"{a}"' for a in advertise) + "]")
    with open(s.config, "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")


def portals(s, port):
    i = Initiator(port).login("Discovery")
    pairs = i.discover()
    i.logout()
    assert pairs[0] == ("TargetName", IQN), pairs
    return [value for key, value in pairs[1:] if key == "TargetAddress"]


def main():
    with zt.Server() as s:
        s.cli("iscsi", "create-target", "--iqn", IQN, "--lun", "0", "--size", "64M")
        s.second, s.third = zt.free_port(), zt.free_port()
        configure(s, [])
        s.start()
        assert portals(s, s.iscsi_port) == [f"127.0.0.1:{s.iscsi_port},1"]
        assert portals(s, s.third) == [f"127.0.0.1:{s.third},1"]
        done = subprocess.run(["iscsi-ls", f"iscsi://[::1]:{s.second}"], text=True,
                              timeout=zt.LIMIT_S, capture_output=True, check=False)
        assert f"Target:{IQN} Portal:[::1]:{s.second},1" in done.stdout, (done.stdout, done.stderr)
        # A session over IPv6, with I/O.
        done = subprocess.run(["iscsi-readcapacity16", f"iscsi://[::1]:{s.second}/{IQN}/0"],
                              text=True, timeout=zt.LIMIT_S, capture_output=True, check=False)
        assert "Total size:67108864" in done.stdout, (done.stdout, done.stderr)

        # A running session does not notice the change; the next discovery does.
        held = Initiator(s.iscsi_port, IQN).ready()
        advertise = ["192.0.2.7:3260", "[2001:db8::7]:3260", "192.0.2.8:860"]
        configure(s, advertise)
        s.process.send_signal(signal.SIGHUP)
        zt.wait_for(lambda: portals(s, s.iscsi_port) == [a + ",1" for a in advertise])
        held.write(0, b"x" * 512)
        assert held.discover("") == [("TargetName", IQN)] + [
            ("TargetAddress", a + ",1") for a in advertise]
        # By name: one's own in a normal session, any in a discovery session.
        assert held.discover(IQN)[0] == ("TargetName", IQN)
        assert held.discover("All") == [("SendTargets", "Reject")]
        assert held.discover("iqn.2024-01.net.zerofs:other") == [("SendTargets", "Reject")]
        held.logout()
        s.stop()


main()
