# SPDX-License-Identifier: Apache-2.0
"""A raw NBD client: it can also say what no decent client says.

    k = rawnbd.Client(("127.0.0.1", port))      # or a path of a unix socket
    k.enter("disk", mode=rawnbd.STRUCTURED, contexts=["base:allocation"])
    k.write(0, b"x" * 4096, fua=True)
    data = k.read(0, 4096)
    cookie = k.send(rawnbd.TRIM, 0, 1 << 30)    # pipelining: send() now, receive() later
    reply = k.receive()
"""
import select
import socket
import struct

READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS = range(8)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN = (1 << n for n in range(6))
OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST = 1, 2, 3
OPT_STARTTLS, OPT_INFO, OPT_GO, OPT_STRUCTURED_REPLY = 5, 6, 7, 8
OPT_LIST_META, OPT_SET_META, OPT_EXTENDED_HEADERS = 9, 10, 11
ACK, SERVER, INFO, META = 1, 2, 3, 4
ERR = 1 << 31
ERR_UNSUP, ERR_POLICY, ERR_INVALID, ERR_TLS_REQD, ERR_UNKNOWN = (ERR + n for n in (1, 2, 3, 5, 6))
ERR_SHUTDOWN, ERR_TOO_BIG = ERR + 7, ERR + 9
EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN = 1, 5, 12, 22, 28, 75, 95, 108
IHAVEOPT = 0x49484156454F5054
REQUEST, REQUEST_EXT = 0x25609513, 0x21E41C71
SIMPLE_REPLY, CHUNK, CHUNK_EXT = 0x67446698, 0x668E33EF, 0x6E8A278C
SIMPLE, STRUCTURED, EXTENDED = range(3)


class Closed(Exception):
    """The server has closed the connection."""


class Reply:
    """The whole answer to one request."""

    def __init__(self, cookie):
        self.cookie = cookie
        self.error = 0
        self.chunks = []  # (type, payload)
        self.data = b""   # of a simple reply

    def bytes_at(self, off, length):
        """What a READ at off gave."""
        if not self.chunks:
            return self.data
        out = bytearray(length)
        for kind, payload in self.chunks:
            at = struct.unpack(">Q", payload[:8])[0] - off if kind in (1, 2) else 0
            if kind == 1:
                out[at:at + len(payload) - 8] = payload[8:]
        return bytes(out)

    def extents(self):
        """Of BLOCK_STATUS: [(length, flags)]."""
        for kind, payload in self.chunks:
            if kind == 5:
                return [struct.unpack_from(">II", payload, n) for n in range(4, len(payload), 8)]
            if kind == 6:
                return [struct.unpack_from(">QQ", payload, n) for n in range(8, len(payload), 16)]
        return []


class Client:
    def __init__(self, address, flags=3, timeout_s=60):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout_s)
        self.socket.connect(address)
        if family == socket.AF_INET:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.mode = SIMPLE
        self.next_cookie = 1
        self.reads = {}
        self.partial = {}
        self.buffer = bytearray()
        if flags is not None:
            hello = self.get(18)
            assert hello[:16] == b"NBDMAGICIHAVEOPT", hello
            self.put(struct.pack(">I", flags))

    def put(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as e:
            raise Closed() from e

    def get(self, n):
        while len(self.buffer) < n:
            try:
                more = self.socket.recv(max(n - len(self.buffer), 1 << 18))
            except ConnectionResetError as e:
                raise Closed() from e
            if not more:
                raise Closed()
            self.buffer += more
        out = bytes(self.buffer[:n])
        del self.buffer[:n]
        return out

    def is_closed(self):
        """Reads on until the server ends the connection."""
        try:
            while True:
                self.get(1)
        except Closed:
            return True
        except socket.timeout:
            return False

    def has_input(self):
        """Something has come and waits to be received."""
        return bool(self.buffer or select.select([self.socket], [], [], 0)[0])

    def close(self):
        self.socket.close()

    # handshake
    def option(self, opt, data=b""):
        self.put(struct.pack(">QII", IHAVEOPT, opt, len(data)) + data)

    def answer(self):
        magic, opt, kind, length = struct.unpack(">QIII", self.get(20))
        assert magic == 0x0003E889045565A9, hex(magic)
        return opt, kind, self.get(length)

    def ask(self, opt, data=b""):
        """All answers to one option: ([(type, data)], type of the last)."""
        self.option(opt, data)
        answers = []
        while True:
            _, kind, payload = self.answer()
            answers.append((kind, payload))
            if kind == ACK or kind & ERR:
                return answers, kind

    def go(self, name, opt=OPT_GO, infos=()):
        name = name.encode()
        body = struct.pack(">I", len(name)) + name + struct.pack(">H", len(infos))
        answers, last = self.ask(opt, body + b"".join(struct.pack(">H", i) for i in infos))
        for kind, payload in answers:
            if kind == INFO and payload[:2] == b"\0\0":
                _, self.size, self.flags = struct.unpack(">HQH", payload)
        return last

    def set_contexts(self, name, contexts, opt=OPT_SET_META):
        name = name.encode()
        body = struct.pack(">I", len(name)) + name + struct.pack(">I", len(contexts))
        for c in contexts:
            body += struct.pack(">I", len(c)) + c.encode()
        return self.ask(opt, body)

    def enter(self, name, mode=SIMPLE, contexts=()):
        if mode != SIMPLE:
            opt = OPT_STRUCTURED_REPLY if mode == STRUCTURED else OPT_EXTENDED_HEADERS
            assert self.ask(opt)[1] == ACK
        if contexts:
            assert self.set_contexts(name, contexts)[1] == ACK
        assert self.go(name) == ACK
        self.mode = mode
        return self

    # transmission
    def header(self, command, off, length, flags=0, cookie=None):
        if cookie is None:
            cookie = self.next_cookie
            self.next_cookie += 1
        if self.mode == EXTENDED:
            return cookie, struct.pack(">IHHQQQ", REQUEST_EXT, flags, command, cookie, off, length)
        return cookie, struct.pack(">IHHQQI", REQUEST, flags, command, cookie, off, length)

    def send(self, command, off=0, length=0, flags=0, payload=b""):
        if command == WRITE:
            length = len(payload)
            flags |= PAYLOAD_LEN if self.mode == EXTENDED else 0
        cookie, head = self.header(command, off, length, flags)
        if command == READ:
            self.reads[cookie] = length
        self.put(head + payload)
        return cookie

    def receive(self):
        """The next reply that is complete, in whatever order."""
        while True:
            magic = struct.unpack(">I", self.get(4))[0]
            if magic == SIMPLE_REPLY:
                assert self.mode != EXTENDED
                error, cookie = struct.unpack(">IQ", self.get(12))
                reply = Reply(cookie)
                reply.error = error
                length = self.reads.pop(cookie, 0)
                assert not (length and self.mode == STRUCTURED)
                reply.data = self.get(length) if error == 0 else b""
                return reply
            if self.mode == EXTENDED:
                assert magic == CHUNK_EXT, hex(magic)
                flags, kind, cookie, _, length = struct.unpack(">HHQQQ", self.get(28))
            else:
                assert magic == CHUNK, hex(magic)
                flags, kind, cookie, length = struct.unpack(">HHQI", self.get(16))
            payload = self.get(length)
            reply = self.partial.setdefault(cookie, Reply(cookie))
            if kind & 0x8000:
                reply.error = struct.unpack(">I", payload[:4])[0]
            elif kind:
                reply.chunks.append((kind, payload))
            if flags & 1:
                self.reads.pop(cookie, None)
                return self.partial.pop(cookie)

    def call(self, command, off=0, length=0, flags=0, payload=b""):
        cookie = self.send(command, off, length, flags, payload)
        reply = self.receive()
        assert reply.cookie == cookie, (reply.cookie, cookie)
        return reply

    def read(self, off, length):
        reply = self.call(READ, off, length)
        assert reply.error == 0, reply.error
        return reply.bytes_at(off, length)

    def write(self, off, data, fua=False):
        assert self.call(WRITE, off, flags=FUA if fua else 0, payload=data).error == 0

    def flush(self):
        assert self.call(FLUSH).error == 0

    def disconnect(self):
        self.put(self.header(DISC, 0, 0)[1])
        assert self.is_closed()
        self.close()
