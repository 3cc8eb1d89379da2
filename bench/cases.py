# SPDX-License-Identifier: Apache-2.0
"""What is measured, and the goals."""

ZEROFS, ZEROFS_MEMORY = "zerofs", "zerofs memory:"
NBDKIT_MEMORY, NBDKIT_FILE = "nbdkit memory", "nbdkit file"
QEMU, TGT, NULL = "qemu-nbd", "tgt -t 1", "null"
ZEROFS_TWO_CPUS = "zerofs, two CPUs"
NULL_TWO_CPUS = "null, two CPUs"
ZEROFS_DIGESTS = "zerofs with digests"
MIB = 1 << 20


class Goal:
    """The field of one server over that of another must be at least, or at most, so much."""

    def __init__(self, text, field, than, at_least=None, at_most=None, of=ZEROFS):
        self.text, self.field, self.of, self.than = text, field, of, than
        self.at_least, self.at_most = at_least, at_most

    def judge(self, results):
        ratio = getattr(results[self.of], self.field) / max(
            getattr(results[self.than], self.field), 1e-9)
        reached = ratio >= self.at_least if self.at_least is not None else ratio <= self.at_most
        return ratio, reached

    def by_cpu(self, results):
        return results[self.of].allowed / results[self.than].allowed


class Case:
    """One table. durable: the server's CPU counts until all is stored; fresh: each run has a new
    store; scattered: the device was first written all over by 4 KiB."""

    def __init__(self, name, title, servers, goals, options, protocol="nbd", seconds=1.5,
                 size=1 << 40, durable=False, fresh=False, scattered=False):
        self.name, self.title, self.servers, self.goals = name, title, servers, goals
        self.options, self.protocol, self.seconds, self.bytes = options, protocol, seconds, size
        self.durable, self.fresh, self.scattered = durable, fresh, scattered
        self.reads = "-w" not in options
        self.megabytes = str(MIB) in options


CASES = (
    Case("nbd-read", "NBD, 4 KiB random read, one connection, depth 32",
         (ZEROFS, ZEROFS_MEMORY, NBDKIT_MEMORY, QEMU, NULL),
         (Goal("IOPS over nbdkit memory, at least 4", "iops", NBDKIT_MEMORY, at_least=4),
          Goal("server CPU over the null server, at most 4", "cpu", NULL, at_most=4)),
         ("-d", "32")),
    Case("nbd-read-1", "NBD, 4 KiB random read, one connection, depth 1",
         (ZEROFS, NBDKIT_MEMORY, NULL),
         (Goal("IOPS over nbdkit memory, at least 1", "iops", NBDKIT_MEMORY, at_least=1),),
         ("-d", "1"), seconds=1),
    Case("nbd-write", "NBD, 4 KiB random write, depth 32, until the dirty limit",
         (ZEROFS, ZEROFS_MEMORY, NBDKIT_MEMORY, QEMU, NULL),
         (Goal("IOPS over nbdkit memory, at least 2", "iops", NBDKIT_MEMORY, at_least=2),),
         ("-w", "100", "-d", "32"), size=160 * MIB, seconds=20),
    Case("nbd-write-sustained", "NBD, 4 KiB random write, depth 32, sustained and flushed",
         (ZEROFS, NBDKIT_FILE),
         (Goal("server CPU over nbdkit file, at most 1", "cpu", NBDKIT_FILE, at_most=1),),
         ("-w", "100", "-d", "32"), size=1024 * MIB, seconds=20, durable=True, fresh=True),
    Case("iscsi-read", "iSCSI, 4 KiB random read, depth 32", (ZEROFS, TGT),
         (Goal("IOPS over tgt, at least 5", "iops", TGT, at_least=5),
          Goal("server CPU over tgt, at most 0.2", "cpu", TGT, at_most=0.2)),
         ("-d", "32"), protocol="iscsi"),
    Case("iscsi-write", "iSCSI, 4 KiB random write, depth 32, until the dirty limit",
         (ZEROFS, TGT),
         (Goal("IOPS over tgt, at least 3", "iops", TGT, at_least=3),),
         ("-w", "100", "-d", "32"), protocol="iscsi", size=160 * MIB, seconds=20),
    Case("iscsi-read-digests", "iSCSI, 4 KiB random read, depth 32, digests off and on (no goal)",
         (ZEROFS, ZEROFS_DIGESTS), (), ("-d", "32"), protocol="iscsi"),
    Case("iscsi-read-1m", "iSCSI, 1 MiB random read, depth 8, digests off and on",
         (ZEROFS, ZEROFS_DIGESTS),
         (Goal("MB/s with digests over without, at least 0.85", "mb_s", ZEROFS, at_least=0.85,
               of=ZEROFS_DIGESTS),),
         ("-d", "8", "-b", str(MIB)), protocol="iscsi"),
    Case("iscsi-write-1m",
         "iSCSI, 1 MiB random write, depth 8, until the dirty limit, digests off and on",
         (ZEROFS, ZEROFS_DIGESTS),
         (Goal("MB/s with digests over without, at least 0.85", "mb_s", ZEROFS, at_least=0.85,
               of=ZEROFS_DIGESTS),),
         ("-w", "100", "-d", "8", "-b", str(MIB)), protocol="iscsi", size=160 * MIB, seconds=20),
    Case("nbd-read-1m", "NBD, 1 MiB random read, depth 8, of what was written in sequence",
         (ZEROFS, NBDKIT_MEMORY, NULL),
         (Goal("MB/s over nbdkit memory, at least 1", "mb_s", NBDKIT_MEMORY, at_least=1),
          Goal("MB/s over the null server, at least 0.8", "mb_s", NULL, at_least=0.8)),
         ("-d", "8", "-b", str(MIB)), fresh=True),
    Case("nbd-read-1m-scattered",
         "NBD, 1 MiB random read, depth 8, of what was written by 4 KiB at random (no goal)",
         (ZEROFS,), (), ("-d", "8", "-b", str(MIB)), scattered=True),
    Case("nbd-write-1m", "NBD, 1 MiB random write, depth 8, until the dirty limit",
         (ZEROFS, NBDKIT_MEMORY, NULL),
         (Goal("MB/s over nbdkit memory, at least 1", "mb_s", NBDKIT_MEMORY, at_least=1),),
         ("-w", "100", "-d", "8", "-b", str(MIB)), size=160 * MIB, seconds=20),
    Case("nbd-write-1m-sustained", "NBD, 1 MiB random write, depth 8, sustained and flushed",
         (ZEROFS, NBDKIT_FILE),
         (Goal("MB/s over nbdkit file, at least 1", "mb_s", NBDKIT_FILE, at_least=1),),
         ("-w", "100", "-d", "8", "-b", str(MIB)), size=1024 * MIB, seconds=20, durable=True,
         fresh=True),
    Case("nbd-scale", "NBD, 4 KiB random read, four connections of depth 32, on one CPU and on two",
         (ZEROFS, ZEROFS_TWO_CPUS, NULL, NULL_TWO_CPUS),
         (Goal("IOPS on two CPUs over one, at least 1.7", "iops", ZEROFS, at_least=1.7,
               of=ZEROFS_TWO_CPUS),),
         ("-d", "32", "-c", "4")),
)
