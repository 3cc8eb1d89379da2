#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# compression: any (it is about who is attached)
"""Commands while clients are attached: who they are is shown, deletion is refused unless they are
to be disconnected, growth is seen, and the clients of other devices notice nothing."""
import json
import socket
import struct

import nbd
import zt

IQN = "iqn.2024-01.net.zerofs:t"
REFUSED = 6


class Initiator:
    """As much of an iSCSI initiator as it takes to be logged in."""

    def __init__(self, port, name):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=zt.LIMIT_S)
        keys = (f"InitiatorName=iqn.2024-01.net.zerofs.test:{name}", f"TargetName={IQN}",
                "SessionType=Normal", "HeaderDigest=None", "DataDigest=None")
        text = "".join(k + "\0" for k in keys).encode()
        # Login, immediate; from operational negotiation straight to full feature phase.
        head = struct.pack(">BBBBI6sHIHHIIQQ", 0x43, 0x87, 0, 0, len(text),
                           b"\x80" + name.encode()[:5].ljust(5, b"\0"), 0, 1, 0, 0, 1, 0, 0, 0)
        self.socket.sendall(head + text + b"\0" * (-len(text) % 4))
        reply = self.pdu()
        assert reply[0] == 0x23 and reply[1] == 0x87 and reply[36:38] == b"\0\0", reply

    def pdu(self):
        head = self.exactly(48)
        length = int.from_bytes(head[5:8], "big")
        self.exactly(length + -length % 4)
        return head

    def exactly(self, length):
        data = b""
        while len(data) < length:
            part = self.socket.recv(length - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def ended(self):
        try:
            while True:
                self.pdu()
        except (EOFError, ConnectionError):
            return True


def connect(s, name):
    h = nbd.NBD()
    h.set_export_name(name)
    h.connect_tcp("127.0.0.1", str(s.nbd_port))
    return h


def info(s, *words):
    return json.loads(s.cli(*words, "--json").stdout)


def refused(s, *words):
    done = s.cli(*words, check=False)
    assert done.returncode == REFUSED and "in use" in done.stderr, (words, done)
    assert "--disconnect" in done.stderr, done.stderr


def nbd_device(s, other):
    h = connect(s, "a")
    h.pwrite(b"a" * 4096, 0)
    shown = info(s, "nbd", "info", "a")
    assert shown["attached"] == 1 and len(shown["clients"]) == 1, shown
    assert "127.0.0.1" in shown["clients"][0], shown
    assert "127.0.0.1" in s.cli("nbd", "info", "a").stdout
    refused(s, "nbd", "delete", "a", "--force")
    s.cli("nbd", "resize", "a", "2M")
    assert h.get_size() == 1 << 20 and h.pread(4096, 0) == b"a" * 4096
    again = connect(s, "a")
    assert again.get_size() == 2 << 20
    again.pwrite(b"b" * 512, (2 << 20) - 512)
    again.shutdown()
    zt.wait_for(lambda: info(s, "nbd", "info", "a")["attached"] == 1)

    s.cli("nbd", "delete", "a", "--force", "--disconnect")
    try:
        h.pread(4096, 0)
        raise AssertionError("a deleted device can still be read")
    except nbd.Error:
        pass
    assert other.pread(4096, 0) == b"o" * 4096
    assert s.cli("nbd", "info", "a", check=False).returncode == 4
    s.cli("nbd", "create", "a", "1M")
    fresh = connect(s, "a")
    assert fresh.pread(4096, 0) == bytes(4096), "a new device shows the old one's data"
    fresh.shutdown()
    zt.wait_for(lambda: info(s, "nbd", "info", "a")["attached"] == 0)
    s.cli("nbd", "delete", "a", "--force")


def iscsi_target(s, other):
    i = Initiator(s.iscsi_port, "one")
    shown = info(s, "iscsi", "info", IQN)["luns"]
    assert all(lun["attached"] == 1 for lun in shown), shown
    assert "iqn.2024-01.net.zerofs.test:one" in shown[0]["clients"][0], shown
    refused(s, "iscsi", "remove-lun", IQN, "0", "--force")
    refused(s, "iscsi", "delete-target", IQN, "--force")
    s.cli("iscsi", "resize-lun", IQN, "0", "2M")
    s.cli("iscsi", "add-lun", IQN, "9", "1M")
    s.cli("iscsi", "delete-target", IQN, "--force", "--disconnect")
    assert i.ended()
    assert info(s, "iscsi", "list") == {"targets": []}
    assert other.pread(4096, 0) == b"o" * 4096


with zt.Server() as s:
    for name in ("a", "other"):
        s.cli("nbd", "create", name, "1M")
    s.cli("iscsi", "create-target", IQN, "0", "1M")
    s.start()
    other = connect(s, "other")
    other.pwrite(b"o" * 4096, 0)
    nbd_device(s, other)
    iscsi_target(s, other)
    other.shutdown()
    s.stop()
