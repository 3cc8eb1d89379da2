# SPDX-License-Identifier: Apache-2.0
"""Verified writes to a disk of the kernel whose target dies on the way: python3 disk_load.py DISK.

Told by lines on stdin, it answers each by one on stdout:

    load    threads write, with and without O_DSYNC, and flush; answered when that is well under way
    pause   they end, and a last flush makes all of it durable
    hoard   some more writes, behind which no flush comes
    doubt   the target is about to die
    check   they end; then all that was made durable has to be there, no block may be torn, and if
            anything that was acknowledged is gone, a flush has to have failed. The answer is
            "told" or "untold", and what was seen.

What the kernel had under way when the target died it sends again. So only what each block holds is
looked at, and not the order of writes on different ones (history.py, 1 and 3); and a flush that was
under way, or came between, proves nothing: of all that makes data durable one command is told."""
import errno
import mmap
import os
import random
import sys
import threading

from history import BLOCK, History

BLOCKS = 2048
THREADS = 4
FLUSH_EVERY = 60      # writes of a thread
UNDER_WAY = 100       # writes
HOARDED = 10          # writes
TELLING = (errno.EIO, errno.EREMOTEIO)


class Disk:
    def __init__(self, path):
        self.fd = os.open(path, os.O_RDWR | os.O_DIRECT)
        self.durable_fd = os.open(path, os.O_RDWR | os.O_DIRECT | os.O_DSYNC)

    def image(self):
        parts, at, piece = [], 0, mmap.mmap(-1, 1 << 20)
        while at < BLOCKS * BLOCK:
            got = os.preadv(self.fd, [piece], at)
            parts.append(piece[:got])
            at += got
        return b"".join(parts)


class Load:
    def __init__(self, path, seed):
        self.disk, self.seed = Disk(path), seed
        self.history = History(BLOCKS)
        self.lock = threading.Lock()
        self.progress = threading.Condition(self.lock)
        self.busy = set()
        self.told = self.writes = self.flushes = self.rounds = 0
        self.failure = None
        self.trusts = True  # in flushes
        self.threads, self.stop = [], False

    # -- threads -----------------------------------------------------------------------------------

    def begin(self):
        self.stop, self.rounds = False, self.rounds + 1
        self.threads = [threading.Thread(target=self.work, daemon=True, args=(n,))
                        for n in range(THREADS)]
        with self.lock:
            enough = self.writes + UNDER_WAY
            for t in self.threads:
                t.start()
            self.progress.wait_for(lambda: self.writes >= enough or self.failure)
        self.complain()

    def end(self):
        self.stop = True
        for t in self.threads:
            t.join()
        self.complain()

    def complain(self):
        if self.failure:
            raise self.failure

    def work(self, number):
        rnd = random.Random(f"{self.seed} {self.rounds} {number}")
        piece = mmap.mmap(-1, 32 * BLOCK)
        try:
            while not self.stop:
                for _ in range(FLUSH_EVERY):
                    if not self.stop:
                        self.write(rnd, piece, rnd.random() < 0.05)
                self.flush()
        except Exception as failure:  # it belongs to the main thread
            with self.lock:
                self.failure = failure
                self.progress.notify_all()

    def choose(self, rnd):
        """A new write that meets no other one."""
        while True:
            count = rnd.choice((1, 1, 1, 2, 8, 32))
            first = rnd.randrange(BLOCKS - count)
            blocks = range(first, first + count)
            if self.busy.isdisjoint(blocks):
                self.busy.update(blocks)
                return self.history.write(first, count, False), blocks

    def write(self, rnd, piece, durable):
        with self.lock:
            w, blocks = self.choose(rnd)
        piece[:w.count * BLOCK] = w.payload()
        done = True
        try:
            size = os.pwrite(self.disk.durable_fd if durable else self.disk.fd,
                             memoryview(piece)[:w.count * BLOCK], w.first * BLOCK)
            assert size == w.count * BLOCK, f"{size} bytes were written of {w.count * BLOCK}"
        except OSError as error:
            done = self.is_no_telling(error, durable)
        with self.lock:
            self.busy.difference_update(blocks)
            self.writes += 1
            if done:
                w.completed = self.writes
            if done and durable:
                self.history.durable(w)
            self.progress.notify_all()

    def is_no_telling(self, error, may_tell):
        """Only what makes data durable may fail, and that says that earlier data are gone."""
        if not may_tell or error.errno not in TELLING:
            raise error
        with self.lock:
            self.told += 1
        return False

    def flush(self):
        with self.lock:
            covered = self.history.completed()
        try:
            os.fsync(self.disk.fd)
        except OSError as error:
            self.is_no_telling(error, True)
            return
        with self.lock:
            self.flushes += 1
            if self.trusts:
                for w in covered:
                    self.history.durable(w)

    # -- what is asked for -------------------------------------------------------------------------

    def pause(self):
        self.end()
        self.flush()
        return "paused"

    def load(self):
        self.begin()
        return "loading"

    def hoard(self):
        rnd, piece = random.Random(f"{self.seed} {self.writes}"), mmap.mmap(-1, 32 * BLOCK)
        for _ in range(HOARDED):
            self.write(rnd, piece, False)
        self.complain()
        return "hoarded"

    def doubt(self):
        """What a flush says from now on, another one may have been told before."""
        with self.lock:
            self.trusts = False
        return "doubting"

    def check(self):
        self.end()
        self.flush()
        self.trusts = True
        told, self.told = self.told, 0
        h, image = self.history, self.disk.image()
        lost = h.lost(image)
        assert told or lost is None, f"write {lost} is lost, and nobody was told"
        blocks = [image[b * BLOCK:(b + 1) * BLOCK] for b in range(BLOCKS)]
        shown = [h.seen(b, blocks[b]) for b in range(BLOCKS)]
        h.settle(blocks, shown)
        return (f"{'told' if told else 'untold'} {self.writes} writes, {self.flushes} flushes, "
                f"{'nothing' if lost is None else 'something'} lost")


def main():
    seed = os.environ.get("SEED", str(random.randrange(1 << 32)))
    print(f"seed {seed}", file=sys.stderr)
    load = Load(sys.argv[1], seed)
    known = {"load": load.load, "pause": load.pause, "hoard": load.hoard, "doubt": load.doubt,
             "check": load.check}
    for line in sys.stdin:
        print(known[line.strip()](), flush=True)


main()
