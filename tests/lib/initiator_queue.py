# SPDX-License-Identifier: Apache-2.0
"""An initiator with many commands under way, which end in any order.

    q = Queue(port, IQN).ready()
    itt = q.start(cdb, out=data)        # when q.has_room(): within the command window
    itt, status = q.ended()             # the next command that has ended: initiator.Status

ended() waits for nothing but this connection. Who has others to answer as well calls taken() on the
one that has something to read: after a ping, an R2T or an asynchronous message none may ever end.
"""
import struct

import initiator
from initiator import Initiator


def cdb16(opcode, lba, blocks, byte1=0):
    return struct.pack(">BBQIBB", opcode, byte1, lba, blocks, 0, 0)


def unmap_list(ranges):
    """The parameter list of UNMAP: [(lba, blocks)]."""
    body = b"".join(struct.pack(">QII", lba, blocks, 0) for lba, blocks in ranges)
    return struct.pack(">HHI", len(body) + 6, len(body), 0) + body


def unmap_cdb(ranges):
    return struct.pack(">BBIBHB", 0x42, 0, 0, 0, 8 + 16 * len(ranges), 0)


class Queue(Initiator):
    def __init__(self, *args, **named):
        super().__init__(*args, **named)
        self.max_cmdsn = 1
        self.outs = {}   # by ITT: the data that R2Ts ask for
        self.parts = {}  # by ITT: Data-In so far

    def take_pdu(self):
        pdu = super().take_pdu()
        if pdu is None:
            return None
        if pdu.opcode != initiator.REJECT:
            self.max_cmdsn = max(self.max_cmdsn, pdu.word(32))
        if pdu.opcode == initiator.RESPONSE or (pdu.opcode == initiator.DATA_IN and pdu.flags & 1):
            self.exp_statsn = pdu.word(24) + 1
        return pdu

    def has_room(self):
        return self.cmdsn <= self.max_cmdsn

    def start(self, cdb, edtl=0, out=None):
        itt = self.begin(cdb, edtl, out)
        self.outs[itt] = out or b""
        self.parts[itt] = []
        return itt

    def ended(self):
        while True:
            ended = self.taken()
            if ended:
                return ended

    def taken(self):
        """Takes one PDU: (itt, Status) of the command that it ends, or None."""
        pdu = self.take_pdu()
        if pdu is None:
            return None
        if pdu.opcode == initiator.ASYNC:
            self.asyncs.append(pdu)
            return None
        itt = pdu.itt
        assert itt in self.parts, f"opcode {pdu.opcode:#x}: {pdu.bhs.hex()}"
        parts = self.parts[itt]
        if pdu.opcode == initiator.R2T:
            offset, length = pdu.word(40), pdu.word(44)
            self.data_out(itt, pdu.word(20), offset, self.outs[itt][offset:offset + length])
            return None
        if pdu.opcode == initiator.DATA_IN:
            assert pdu.word(40) == sum(map(len, parts)), "Data-In out of order"
            parts.append(pdu.data)
            if not pdu.flags & 1:
                return None
        else:
            assert pdu.opcode == initiator.RESPONSE, hex(pdu.opcode)
        del self.outs[itt], self.parts[itt]
        return itt, initiator.Status(pdu, b"".join(parts), 0)
