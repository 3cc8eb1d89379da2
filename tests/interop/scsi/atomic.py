#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""WRITE ATOMIC(16): of writes to one place by several initiators, of the size that VPD page B0h
announces, every read sees one as a whole, and so does who reads after a kill -9 in their midst."""
import struct
import threading

import initiator as iscsi
import zt

IQN = "iqn.2024-01.net.zerofs:atomic"
WRITERS, LIVES, MOST_BYTES = 2, 3, 256 << 10
LBA = 5  # so that ends and begins of pages and blocks of the store lie within


def limits(initiator):
    page = initiator.run(struct.pack(">BBBHB", 0x12, 1, 0xB0, 64, 0), 64).data
    most, alignment, granularity, with_boundary, boundary = struct.unpack(">5I", page[44:64])
    assert most >= 128 and not (alignment or granularity or with_boundary or boundary), page.hex()
    return most


def write_atomic(initiator, value, blocks, fua):
    cdb = struct.pack(">BBQHHBB", 0x9C, 8 if fua else 0, LBA, 0, blocks, 0, 0)
    data = struct.pack(">Q", value) * (blocks * iscsi.BLOCK // 8)
    assert initiator.run(cdb, out=data).status == 0


def value_of(data):
    assert data == data[:8] * (len(data) // 8), "a write was seen in part"
    return struct.unpack(">Q", data[:8])[0]


class Writer(threading.Thread):
    """Counts up from its number in steps, until the server is gone."""

    def __init__(self, server, number, begin, blocks):
        super().__init__()
        self.initiator = iscsi.Initiator(server.iscsi_port, IQN, name=f"iqn.2024-01.test:{number}")
        self.initiator.ready()
        while self.initiator.run(b"\x35" + bytes(9)).status:
            pass  # told that the life before has lost writes
        self.value, self.blocks = begin * WRITERS + number, blocks
        self.written, self.failure = 0, None
        self.busy = threading.Event()

    def run(self):
        try:
            while True:
                self.value += WRITERS
                write_atomic(self.initiator, self.value, self.blocks, self.written % 8 == 7)
                self.written += 1
                if self.written == 24:
                    self.busy.set()  # and some of it is durable
        except (OSError, EOFError):
            pass  # it was killed
        except Exception as failure:  # it belongs to the main thread
            self.failure = failure
        self.busy.set()


def life_of(server, least, most):
    """Reads what the life before left, which is from least to most, and writes until it is killed.
    The least and the most that may be found after that."""
    reader = iscsi.Initiator(server.iscsi_port, IQN).ready()
    blocks = min(limits(reader), MOST_BYTES // iscsi.BLOCK)
    found = value_of(reader.read(LBA, blocks))
    assert least <= found <= most, (least, found, most)
    begin = most // WRITERS + 1
    writers = [Writer(server, n, begin, blocks) for n in range(WRITERS)]
    for writer in writers:
        writer.start()
    while not all(writer.busy.is_set() for writer in writers):
        value_of(reader.read(LBA, blocks))
    server.kill()
    for writer in writers:
        writer.join()
        assert not writer.failure, writer.failure
    reader.close()
    return begin * WRITERS, max(writer.value for writer in writers)


def main():
    with zt.Server() as server:
        server.cli("iscsi", "create-target", IQN, "0", "16M")
        least, most = 0, 0
        for _ in range(LIVES):
            server.start()
            least, most = life_of(server, least, most)
        server.start()
        reader = iscsi.Initiator(server.iscsi_port, IQN).ready()
        assert least <= value_of(reader.read(LBA, 128)) <= most
        reader.logout()
        server.stop()


main()
