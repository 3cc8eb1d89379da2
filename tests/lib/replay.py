# SPDX-License-Identifier: Apache-2.0
"""The command sequences of other systems' initiators, step by step: each step is a CDB as that
system sends it, with the status it has to end with and the fields of its data that the system goes
by. What every answer must have besides is checked of each step: an underflow told by its exact
count, and sense data of a known form.

    host = replay.Host(port, IQN, name="iqn.1998-01.com.vmware:esx-1")
    host.step("capacity", "9e 10 0:64 32:32 0:16", get=32, has={"block length": (8, 4, 512)})
    host.step("ATA", "85 0:120", get=512, sense=(5, 0x2000))
    host.step("write", f"2a 00 {lba}:32 00 {blocks}:16 00", put=data)

In a CDB a word is a byte in hexadecimal, or VALUE:BITS with a decimal value.
"""
import struct

import initiator

GOOD, CHECK_CONDITION, CONFLICT, MISCOMPARE = 0, 2, 0x18, (0xE, 0x1D00)
POWER_ON = 0x2900
BLOCK = initiator.BLOCK


def cdb(text):
    out = b""
    for word in text.split():
        value, _, bits = word.partition(":")
        out += int(value).to_bytes(int(bits) // 8, "big") if bits else bytes([int(value, 16)])
    return out


def field(data, at, size):
    assert len(data) >= at + size, (len(data), at, size)
    return int.from_bytes(data[at:at + size], "big")


def sense_of(done):
    """(key, code and qualifier, INFORMATION or None)."""
    s = done.sense
    assert len(s) >= 18 and s[0] & 0x7F == 0x70 and s[7] >= 10, s.hex()
    return s[2] & 15, s[12] << 8 | s[13], field(s, 3, 4) if s[0] & 0x80 else None


class Host(initiator.Initiator):
    def __init__(self, port, iqn, name, keys=None, isid=None):
        super().__init__(port, iqn, keys, name, isid)
        self.lun = 0
        self.login()

    def pack(self, opcode, *args, **named):
        if opcode & 0x3F in (initiator.COMMAND, initiator.TMF):
            named.setdefault("lun", self.lun << 48)
        return super().pack(opcode, *args, **named)

    def step(self, what, command, get=0, put=None, status=None, sense=None, has=None):
        """Its data. sense: (key, code); has: name -> (offset, bytes, value or function of it)."""
        done = self.run(cdb(command), get, put)
        expected = status if status is not None else CHECK_CONDITION if sense else GOOD
        assert done.status == expected, (what, command, done.status, done.sense.hex())
        if sense:
            assert sense_of(done)[:2] == sense, (what, command, done.sense.hex())
        if not put:
            missing = get - len(done.data)
            told = done.residual if done.under else 0
            assert told == missing and not done.over, (what, command, get, len(done.data), told)
        for name, (at, size, value) in (has or {}).items():
            found = field(done.data, at, size)
            good = value(found) if callable(value) else found == value
            assert good, (what, command, name, hex(found), done.data.hex())
        return done.data

    def information(self, what, command, put, sense):
        """INFORMATION of a command that ends with that sense."""
        done = self.run(cdb(command), 0, put)
        found = sense_of(done) if done.status == CHECK_CONDITION else done.status
        assert found[:2] == sense, (what, command, found)
        return found[2]

    def attention(self, *codes):
        """Those unit attentions, in this order; then the unit is ready."""
        for code in codes:
            self.step("unit attention", "00 0:40", sense=(6, code))
        self.step("ready", "00 0:40")

    def pages(self):
        data = self.step("supported pages", "12 01 00 00 ff 00", get=255)
        assert list(data[4:]) == sorted(data[4:]), data.hex()
        return data[4:4 + data[3]]

    def designators(self):
        """(association, type) -> designator, of VPD page 83h."""
        data = self.step("identification", "12 01 83 00 ff 00", get=255, has={"page": (1, 1, 0x83)})
        at, found = 4, {}
        assert field(data, 2, 2) == len(data) - 4, data.hex()
        while at < len(data):
            kind, size = data[at + 1], data[at + 3]
            found[kind >> 4 & 3, kind & 15] = data[at + 4:at + 4 + size]
            at += 4 + size
        return found

    def manage(self, function, referenced=initiator.NONE):
        """A task management function: its response."""
        self.send(initiator.TMF | initiator.IMMEDIATE, 0x80 | function,
                  fields=((20, referenced), (24, self.cmdsn), (28, self.exp_statsn)))
        self.itt += 1
        pdu = self.answer()
        assert pdu.opcode == initiator.TMF_RESPONSE, pdu.bhs
        return pdu.bhs[2]


def unmap_list(*ranges):
    """The parameter list of UNMAP: (LBA, blocks) each."""
    body = b"".join(struct.pack(">QIxxxx", lba, blocks) for lba, blocks in ranges)
    return struct.pack(">HHxxxx", len(body) + 6, len(body)) + body


def unmap(host, *ranges):
    put = unmap_list(*ranges)
    host.step("unmap", f"42 00 00 00 00 00 00 {len(put)}:16 00", put=put)
