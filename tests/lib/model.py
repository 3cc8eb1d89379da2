# SPDX-License-Identifier: Apache-2.0
"""A device as bytes in memory. What is known about a byte is its value, or that it is free:
trimmed, so that it is zero or what it was, and from the first read on what was read."""


class Model:
    def __init__(self, size):
        self.data = bytearray(size)
        self.free = {}  # 512-byte sectors that a trim has left open

    def write(self, off, data):
        self.data[off:off + len(data)] = data
        self.known(off, len(data))

    def known(self, off, length):
        for sector in range(off // 512, (off + length + 511) // 512):
            whole = sector * 512 >= off and (sector + 1) * 512 <= off + length
            if whole:
                self.free.pop(sector, None)

    def trim(self, off, length):
        for sector in range((off + 511) // 512, (off + length) // 512):
            self.free[sector] = True

    def check(self, off, have):
        """Compares, and learns what a trim has left."""
        if self.data[off:off + len(have)] == have:
            return
        for at in range(off, off + len(have)):
            want, got = self.data[at], have[at - off]
            if want != got:
                assert at // 512 in self.free and got == 0, \
                    f"byte {at}: {got:#x} instead of {want:#x} (read of {off}+{len(have)})"
                self.data[at] = 0

    def resize(self, size):
        if size < len(self.data):
            del self.data[size:]
            self.free = {s: True for s in self.free if (s + 1) * 512 <= size}
        else:
            self.data += bytes(size - len(self.data))
