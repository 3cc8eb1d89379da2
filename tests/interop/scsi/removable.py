#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A removable LUN: its medium goes out and in by command line and by START STOP UNIT, what is kept
in by an initiator stays in unless it is forced out, and it is out still after a restart."""
import json

import initiator as iscsi
import zt

IQN = "iqn.2024-01.net.zerofs:removable"
EMPTY, CHANGED, PREVENTED = (2, 0x3A, 0x00), (6, 0x28, 0x00), (5, 0x53, 0x02)
READY, PREVENT, ALLOW = bytes(6), b"\x1e\0\0\0\1\0", b"\x1e" + bytes(5)
EJECT, LOAD = b"\x1b\0\0\0\2\0", b"\x1b\0\0\0\3\0"


def sense_of(initiator, cdb):
    done = initiator.run(cdb)
    return (done.sense[2] & 15, done.sense[12], done.sense[13]) if done.status else None


def main():
    with zt.Server() as server:
        server.cli("iscsi", "create-target", IQN, "0", "16M", "--removable")
        server.cli("iscsi", "add-lun", IQN, "1", "16M")
        server.start()
        assert server.cli("iscsi", "eject", IQN, "1", check=False).returncode != 0
        initiator = iscsi.Initiator(server.iscsi_port, IQN).ready()
        assert initiator.run(b"\x12\0\0\0\x24\0", 36).data[1] == 0x80
        data = bytes(range(256)) * 16
        initiator.write(0, data)
        told = server.cli("iscsi", "eject", IQN, "0").stdout
        assert told.startswith(f"LUN 0 of '{IQN}'") and "ejected" in told, told
        assert sense_of(initiator, READY) == EMPTY
        assert sense_of(initiator, b"\x28" + bytes(7) + b"\1\0") == EMPTY
        server.cli("iscsi", "insert", IQN, "0")
        assert sense_of(initiator, READY) == CHANGED and sense_of(initiator, READY) is None
        assert sense_of(initiator, PREVENT) is None
        assert sense_of(initiator, EJECT) == PREVENTED
        kept = server.cli("iscsi", "eject", IQN, "0", check=False)
        assert kept.returncode != 0 and "--force" in kept.stderr, kept
        server.cli("iscsi", "eject", IQN, "0", "--force")
        assert sense_of(initiator, READY) == EMPTY and sense_of(initiator, LOAD) == PREVENTED
        assert sense_of(initiator, ALLOW) is None and sense_of(initiator, LOAD) is None
        assert initiator.read(0, 8) == data and sense_of(initiator, EJECT) is None
        initiator.logout()
        server.stop()
        info = json.loads(server.cli("iscsi", "info", IQN, "--json").stdout)
        luns = {lun["lun"]: lun for lun in info["luns"]}
        assert luns[0]["removable"] and luns[0]["ejected"] and not luns[1]["removable"], luns
        server.start()
        initiator = iscsi.Initiator(server.iscsi_port, IQN)
        initiator.login()
        while sense_of(initiator, READY) != EMPTY:
            pass
        assert sense_of(initiator, LOAD) is None and initiator.read(0, 8) == data
        initiator.logout()
        server.stop()


main()
