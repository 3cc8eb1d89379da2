# SPDX-License-Identifier: Apache-2.0
"""A raw iSCSI initiator for tests: PDUs by hand, so that every way to send data, and every way to
do it wrong, can be had.

    i = Initiator(port, IQN, {"InitialR2T": "No"})
    i.login()
    i.write(lba, data)
    assert i.read(lba, blocks) == data
"""
import itertools
import socket
import struct

NONE = 0xFFFFFFFF
BLOCK = 512
NOP_OUT, COMMAND, TMF, LOGIN, TEXT, DATA_OUT, LOGOUT, SNACK = 0, 1, 2, 3, 4, 5, 6, 0x10
NOP_IN, RESPONSE, TMF_RESPONSE, LOGIN_RESPONSE, TEXT_RESPONSE, DATA_IN = range(0x20, 0x26)
LOGOUT_RESPONSE, R2T, ASYNC, REJECT = 0x26, 0x31, 0x32, 0x3F
IMMEDIATE, FINAL = 0x40, 0x80

_TABLE = []
for _n in range(256):
    for _ in range(8):
        _n = (_n >> 1) ^ (0x82F63B78 if _n & 1 else 0)
    _TABLE.append(_n)


def crc32c(data):
    crc = 0xFFFFFFFF
    table = _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


class LoginRefused(Exception):
    """status: as hex; keys: what came with it."""

    def __init__(self, status, keys=None):
        super().__init__(status)
        self.status, self.keys = int(status, 16), keys or {}


class Rejected(Exception):
    pass


class Pdu:
    def __init__(self, bhs, data):
        self.bhs, self.data = bhs, data
        self.opcode, self.flags = bhs[0] & 0x3F, bhs[1]

    def word(self, at):
        return int.from_bytes(self.bhs[at:at + 4], "big")

    @property
    def itt(self):
        return self.word(16)


class Status:
    """How a command ended."""

    def __init__(self, pdu, data, r2ts):
        self.status, self.data, self.r2ts = pdu.bhs[3], data, r2ts
        self.under, self.over = bool(pdu.flags & 2), bool(pdu.flags & 4)
        self.residual = pdu.word(44)
        self.sense = pdu.data[2:] if pdu.opcode == RESPONSE else b""


class Initiator:
    serials = itertools.count(1)  # of all threads
    tsih_asked = 0

    def __init__(self, port, iqn=None, keys=None, name="iqn.2024-01.test:raw", isid=None):
        self.iqn, self.name = iqn, name
        self.isid = isid or b"\x80" + next(Initiator.serials).to_bytes(5, "big")
        self.keys = {"HeaderDigest": "None", "DataDigest": "None",
                     "MaxRecvDataSegmentLength": "262144"}
        self.keys.update(keys or {})
        self.agreed = {"ImmediateData": "Yes", "InitialR2T": "Yes", "FirstBurstLength": "65536",
                       "MaxBurstLength": "262144", "MaxOutstandingR2T": "1"}
        self.cmdsn, self.itt, self.exp_statsn = 1, 1, 0
        self.cid = 1
        self.header_digest = self.data_digest = False
        self.asyncs = []  # asynchronous messages that came while something else was waited for
        self.send_len = 8192
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self):
        self.sock.close()

    # -- PDUs ------------------------------------------------------------------------------------

    def pack(self, opcode, flags, data=b"", fields=(), lun=0, itt=None, ahs=b""):
        """fields: (offset, 32-bit value) pairs."""
        bhs = bytearray(48)
        bhs[0], bhs[1], bhs[4] = opcode, flags, len(ahs) // 4
        bhs[5:8] = len(data).to_bytes(3, "big")
        struct.pack_into(">QI", bhs, 8, lun, self.itt if itt is None else itt)
        for at, value in fields:
            struct.pack_into(">I", bhs, at, value & NONE)
        out = bytes(bhs) + ahs
        if self.header_digest:
            out += struct.pack("<I", crc32c(out))
        if data:
            padded = data + b"\0" * (-len(data) % 4)
            out += padded
            if self.data_digest:
                out += struct.pack("<I", crc32c(padded))
        return out

    def send(self, *args, **named):
        self.sock.sendall(self.pack(*args, **named))

    def exactly(self, length):
        parts = []
        while length > 0:
            part = self.sock.recv(length)
            if not part:
                raise EOFError("the server has closed the connection")
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def receive(self):
        """The next PDU that is not a ping."""
        while True:
            pdu = self.take_pdu()
            if pdu:
                return pdu

    def take_pdu(self):
        """The next PDU, or None when it was a ping, which is answered."""
        bhs = self.exactly(48)
        ahs = self.exactly(bhs[4] * 4)
        if self.header_digest:
            assert struct.unpack("<I", self.exactly(4))[0] == crc32c(bhs + ahs), "header digest"
        length = int.from_bytes(bhs[5:8], "big")
        data = self.exactly(length + -length % 4)
        if length and self.data_digest:
            assert struct.unpack("<I", self.exactly(4))[0] == crc32c(data), "data digest"
        pdu = Pdu(bhs, data[:length])
        if pdu.opcode == NOP_IN and pdu.itt == NONE:
            if pdu.word(20) != NONE:  # a ping: answer it
                self.send(NOP_OUT | IMMEDIATE, FINAL, itt=NONE,
                          fields=((20, pdu.word(20)), (24, self.cmdsn)))
            return None
        return pdu

    def answer(self):
        """The next PDU that is not an asynchronous message."""
        while True:
            pdu = self.receive()
            if pdu.opcode != ASYNC:
                return pdu
            self.asyncs.append(pdu)

    def event(self):
        """The next asynchronous message: its event, LUN, three parameters, sense data."""
        pdu = self.asyncs.pop(0) if self.asyncs else self.receive()
        assert pdu.opcode == ASYNC and pdu.itt == NONE, pdu.bhs
        words = struct.unpack(">HHH", pdu.bhs[38:44])
        return pdu.bhs[36], int.from_bytes(pdu.bhs[8:16], "big"), words, pdu.data[2:]

    def is_dropped(self):
        """True when the server ends the connection; what it says before is passed over."""
        try:
            while True:
                self.receive()
        except (EOFError, ConnectionError, BrokenPipeError):
            return True
        except socket.timeout:
            return False

    # -- login -----------------------------------------------------------------------------------

    def login(self, session="Normal", tsih=0):
        keys = {"InitiatorName": self.name, "SessionType": session}
        if self.iqn:
            keys["TargetName"] = self.iqn
        keys.update(self.keys)
        text = b"".join(f"{k}={v}".encode() + b"\0" for k, v in keys.items())
        fields = ((20, self.cid << 16), (24, self.cmdsn))
        head = bytearray(self.pack(LOGIN | IMMEDIATE, 0x87, text, fields))
        head[8:14] = self.isid
        head[14:16] = tsih.to_bytes(2, "big")
        self.sock.sendall(head)
        pdu = self.receive()
        status = int.from_bytes(pdu.bhs[36:38], "big")
        if status:
            pairs = [p.decode().partition("=") for p in pdu.data.split(b"\0") if p]
            raise LoginRefused(hex(status), {key: value for key, _, value in pairs})
        assert pdu.opcode == LOGIN_RESPONSE and pdu.flags == 0x87, pdu.bhs
        for pair in pdu.data.split(b"\0"):
            if pair:
                key, _, value = pair.decode().partition("=")
                self.agreed[key] = value
        self.send_len = int(self.agreed.get("MaxRecvDataSegmentLength", 8192))
        self.header_digest = self.agreed.get("HeaderDigest") == "CRC32C"
        self.data_digest = self.agreed.get("DataDigest") == "CRC32C"
        self.tsih = int.from_bytes(pdu.bhs[14:16], "big")
        self.exp_statsn = pdu.word(24) + 1
        self.itt += 1
        return self

    def ready(self):
        """Logged in, and the unit attentions are over."""
        self.login()
        while self.run(b"\0" * 6).status:
            pass
        return self

    def logout(self):
        self.send(LOGOUT | IMMEDIATE, FINAL, fields=((20, self.cid << 16), (24, self.cmdsn)))
        assert self.receive().opcode == LOGOUT_RESPONSE
        self.close()

    def discover(self, what="All"):
        """The text of SendTargets as pairs."""
        self.send(TEXT | IMMEDIATE, FINAL, f"SendTargets={what}\0".encode(),
                  ((20, NONE), (24, self.cmdsn)))
        data = b""
        while True:
            pdu = self.receive()
            assert pdu.opcode == TEXT_RESPONSE, pdu.bhs
            data += pdu.data
            if pdu.flags & FINAL:
                return [tuple(p.decode().split("=", 1)) for p in data.split(b"\0") if p]
            self.send(TEXT | IMMEDIATE, FINAL, fields=((20, pdu.word(20)), (24, self.cmdsn)))

    # -- commands --------------------------------------------------------------------------------

    def agreed_is(self, key):
        return self.agreed[key] == "Yes"

    def command(self, cdb, edtl=0, flags=FINAL, data=b"", immediate=False):
        """Sends the command's PDU; its ITT."""
        itt = self.itt
        self.itt += 1
        words = struct.unpack(">4I", cdb.ljust(16, b"\0"))
        fields = [(20, edtl), (24, self.cmdsn), (28, self.exp_statsn)]
        fields += [(32 + 4 * n, w) for n, w in enumerate(words)]
        self.send(COMMAND | (IMMEDIATE if immediate else 0), flags | 1, data, fields, itt=itt)
        if not immediate:
            self.cmdsn += 1
        return itt

    def data_out(self, itt, ttt, offset, data):
        """A whole sequence, in PDUs as long as the target takes."""
        sn, at = 0, 0
        while True:
            piece = data[at:at + self.send_len]
            last = at + len(piece) == len(data)
            self.send(DATA_OUT, FINAL if last else 0, piece,
                      ((20, ttt), (36, sn), (40, offset + at)), itt=itt)
            sn, at = sn + 1, at + len(piece)
            if last:
                return

    def finish(self, itt, out=b""):
        """Answers R2Ts, takes Data-In, until the command's end."""
        parts, r2ts, datasn = [], 0, 0
        while True:
            pdu = self.receive()
            if pdu.opcode == REJECT:
                raise Rejected(pdu.bhs[2])
            if pdu.opcode == ASYNC:
                self.asyncs.append(pdu)
                continue
            assert pdu.itt == itt, (hex(pdu.opcode), pdu.itt, itt)
            if pdu.opcode == R2T:
                assert pdu.word(36) == r2ts, "R2TSN"
                r2ts += 1
                offset, length = pdu.word(40), pdu.word(44)
                assert 0 < length <= int(self.agreed["MaxBurstLength"])
                self.data_out(itt, pdu.word(20), offset, out[offset:offset + length])
                continue
            if pdu.opcode == DATA_IN:
                assert pdu.word(36) == datasn and pdu.word(40) == sum(map(len, parts))
                assert len(pdu.data) <= int(self.keys["MaxRecvDataSegmentLength"])
                datasn += 1
                parts.append(pdu.data)
                if not pdu.flags & 1:
                    continue
            return Status(pdu, b"".join(parts), r2ts)

    def begin(self, cdb, edtl=0, out=None):
        """Sends a command with its unsolicited data, as was agreed; its ITT."""
        if out is None:
            return self.command(cdb, edtl, FINAL | (0x40 if edtl else 0))
        edtl = edtl or len(out)
        burst = min(int(self.agreed["FirstBurstLength"]), int(self.agreed["MaxBurstLength"]))
        burst = min(burst, len(out))
        now = b""
        if self.agreed_is("ImmediateData"):
            now = out[:min(burst, self.send_len)]
            if not self.agreed_is("InitialR2T") and len(now) > 1024:
                now = now[:len(now) // 2 // 4 * 4]  # so that unsolicited data follow as well
        later = b"" if self.agreed_is("InitialR2T") else out[len(now):burst]
        itt = self.command(cdb, edtl, 0x20 | (0 if later else FINAL), now)
        if later:
            self.data_out(itt, NONE, len(now), later)
        return itt

    def run(self, cdb, edtl=0, out=None):
        """One command from its beginning to its end; out: its data."""
        return self.finish(self.begin(cdb, edtl, out), out or b"")

    def write(self, lba, data):
        cdb = struct.pack(">BBQIBB", 0x8A, 0, lba, len(data) // BLOCK, 0, 0)
        done = self.run(cdb, out=data)
        assert done.status == 0, (done.status, done.sense.hex())
        return done

    def read(self, lba, blocks):
        cdb = struct.pack(">BBQIBB", 0x88, 0, lba, blocks, 0, 0)
        done = self.run(cdb, blocks * BLOCK)
        assert done.status == 0, (done.status, done.sense.hex())
        return done.data

    def nop(self, data=b"ping"):
        self.send(NOP_OUT | IMMEDIATE, FINAL, data, ((20, NONE), (24, self.cmdsn)))
        self.itt += 1
        return self.answer()
