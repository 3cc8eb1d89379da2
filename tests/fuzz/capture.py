#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes seeds of what real initiators say: listens in on libiscsi's tools and suite, on QEMU and on
Linux' initiator in a guest, and keeps what has something in it that nothing before had.

    tests/fuzz/capture.py          (in a fresh folder, with what docs/TESTING.md says in the
                                    environment; writes tests/fuzz/corpus/iscsi_*, scsi_cdb)

A seed has the name of the client and a number. To be run again when clients say new things: what is
kept then takes the place of all that was."""
import glob
import os
import re
import socket
import subprocess
import sys
import threading

TOP = os.environ["TOP"]
sys.path.insert(0, os.path.join(TOP, "tests", "lib"))
import zt  # noqa: E402

IQN = "iqn.2024-01.net.zerofs:test"  # the one of the fuzz targets
CORPUS = os.path.join(TOP, "tests", "fuzz", "corpus")
BHS = 48
COMMAND, LOGIN, TEXT, DATA_OUT = 1, 3, 4, 5
DATA_MAX = 600      # what is longer is cut
LOGIN_MAX = 1400    # bytes of a stream from its begin
PDUS_OF_SEED, COMMANDS_OF_SEED = 12, 6
PATIENT, UNSOLICITED = 16, 4
SUITES = ("Inquiry ReadCapacity16 ReadWrite TestUnitReady ModeSense6 ProutRegister "
          "ProutReserve ProutClear ProutPreempt PrinReadKeys PrinServiceactionRange "
          "PrinReportCapabilities Unmap WriteSame10 WriteSame16 CompareAndWrite "
          "ExtendedCopy ReceiveCopyResults GetLBAStatus OrWrite Verify10 Verify16 "
          "WriteVerify10 Prefetch10 Prefetch16 Read6 Read10 Read12 Read16 Write10 Write12 "
          "Write16 Reserve6 ReportSupportedOpcodes ReportTargetPortGroups LogSense "
          "StartStopUnit PreventAllow Mandatory Sanitize WriteAtomic16 iSCSITMF "
          "iSCSIcmdsn iSCSIdatasn iSCSIResiduals")

LINUX = r"""#!/bin/bash
set -eu
. ./wait.sh
modprobe -a iscsi_tcp sd_mod sg
mkdir -p /run/lock/iscsi /etc/iscsi
iscsid -f >/root/iscsid.log 2>&1 &
wait_for 60 grep -q ISCSIADM_ABSTRACT /proc/net/unix
. ./guest.sh
iscsiadm -m discovery -t sendtargets -p 10.0.2.2:PORT
iscsiadm -m node -T IQN --login
wait_for 60 disk_of 0
disk=$(disk_of 0)
mkfs.ext4 -q $disk
mount $disk /mnt && dd if=/dev/urandom of=/mnt/f bs=64k count=20 status=none && sync
rm /mnt/f; sync; fstrim /mnt; umount /mnt
for way in '--register --param-sark=1' '--reserve --param-rk=1 --prout-type=5' \
    '--preempt-abort --param-rk=1 --param-sark=1 --prout-type=5' \
    '--release --param-rk=1 --prout-type=5' '--register-ignore --param-sark=2 --param-aptpl' \
    '--clear --param-rk=2'; do
    sg_persist --no-inquiry --out $way $disk || true
done
for what in --read-keys --read-reservation --report-capabilities --read-full-status; do
    sg_persist --no-inquiry --in $what $disk || true
done
for page in 0 80 83 86 87 88 8f b0 b1 b2; do sg_vpd --page=0x$page $disk || true; done
sg_modes --all $disk || true
sg_modes --six --all $disk || true
sg_logs --all $disk || true
sg_opcodes $disk || true
sg_opcodes --tmf $disk || true
sg_rtpg --decode $disk || true
sg_luns $disk || true
sg_requests --desc $disk || true
sg_get_lba_status --lba=0 $disk || true
sg_write_same --16 --unmap --lba=8 --num=8 $disk || true
sg_write_same --10 --lba=8 --num=8 --in=/dev/zero --xferlen=512 $disk || true
sg_unmap --lba=0 --num=8 $disk || true
sg_verify --lba=0 --count=8 $disk || true
sg_sync $disk || true
sg_start --start $disk || true
sg_format --dcrt --fmtpinfo=0 --quick --size=512 --wait $disk || true
sg_senddiag --test $disk || true
sg_wr_mode --page=8 --contents=88,12,0,0,ff,ff,0,0,ff,ff,ff,ff,80,14,0,0,0,0,0,0 $disk || true
sg_xcopy if=$disk of=$disk skip=0 seek=64 count=8 bs=512 || true
dd if=/dev/zero of=block bs=1024 count=1 status=none
sg_compare_and_write --in=block --lba=100 --num=1 --xferlen=1024 $disk || true
sg_reset --device $disk || true
sg_reset --target $disk || true
iscsiadm -m node -T IQN --logout
for key in authmethod=CHAP username=user password='a secret of sixteen'; do
    iscsiadm -m node -T IQN-closed -o update -n node.session.auth.${key%%=*} -v "${key#*=}"
done
iscsiadm -m node -T IQN-closed --login
iscsiadm -m node -T IQN-closed --logout
"""


class Ear:
    """A proxy that keeps what initiators send: streams, a list of bytearrays."""

    def __init__(self, port):
        self.port, self.streams = port, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near = self.listener.accept()[0]
            far = socket.create_connection(("127.0.0.1", self.port))
            heard = bytearray()
            self.streams.append(heard)
            threading.Thread(target=self.carry, args=(near, far, heard), daemon=True).start()
            threading.Thread(target=self.carry, args=(far, near, None), daemon=True).start()

    @staticmethod
    def carry(source, sink, heard):
        try:
            while data := source.recv(1 << 16):
                if heard is not None:
                    heard += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            source.close()
            sink.close()

    def take(self):
        streams, self.streams = self.streams, []
        return [bytes(s) for s in streams if s]

    @property
    def url(self):
        return f"iscsi://127.0.0.1:{self.listener.getsockname()[1]}"


class Pdu:
    def __init__(self, bhs, ahs, data):
        self.bhs, self.ahs, self.data = bhs, ahs, data
        self.opcode, self.flags = bhs[0] & 0x3F, bhs[1]
        self.cdb = bhs[32:48]

    def feature(self):
        """What makes it another one than those before."""
        if self.opcode != COMMAND:
            return self.bhs[0], self.flags, bool(self.data)
        op = self.cdb[0]
        service = self.cdb[1] & 0x1F if op in (0x5E, 0x5F, 0x9E, 0xA3, 0xA4, 0x83, 0x84) else 0
        if op == 0x12:
            service = self.cdb[2]
        if op in (0x1A, 0x5A, 0x4D):
            service = self.cdb[2]
        return op, service, self.cdb[1] & 0xE8, self.flags & 0x67, len(self.data) > DATA_MAX

    def short(self):
        data = self.data[:DATA_MAX]
        return self.bhs[:5] + len(data).to_bytes(3, "big") + self.bhs[8:] + self.ahs + data


def pdus_of(stream):
    at = 0
    while at + BHS <= len(stream):
        bhs = stream[at:at + BHS]
        assert bhs[0] & 0x3F in (0, 1, 2, 3, 4, 5, 6, 0x10), f"no request: {bhs.hex()}"
        ahs = stream[at + BHS:at + BHS + 4 * bhs[4]]
        at += BHS + len(ahs)
        length = int.from_bytes(bhs[5:8], "big")
        yield Pdu(bhs, ahs, stream[at:at + length])
        at += length + -length % 4


class Seeds:
    def __init__(self):
        self.known, self.counts = {}, {}
        for path in glob.glob(os.path.join(CORPUS, "*", "*")):
            if re.fullmatch(r"(libiscsi|qemu|linux)_\d+", os.path.basename(path)):
                os.unlink(path)

    def is_new(self, target, feature):
        known = self.known.setdefault(target, set())
        new = feature not in known
        known.add(feature)
        return new

    def keep(self, target, client, data):
        os.makedirs(os.path.join(CORPUS, target), exist_ok=True)
        number = self.counts[target, client] = self.counts.get((target, client), 0) + 1
        with open(os.path.join(CORPUS, target, f"{client}_{number}"), "wb") as f:
            f.write(data)

    def groups(self, target, client, parts, most, begin=b""):
        for at in range(0, len(parts), most):
            self.keep(target, client, begin + b"".join(parts[at:at + most]))

    # -- one stream --------------------------------------------------------------------------------

    def take(self, client, stream):
        pdus = list(pdus_of(stream))
        self.texts(client, [p for p in pdus if p.opcode in (LOGIN, TEXT)])
        self.login(client, stream, pdus)
        for p in pdus:
            if self.is_new("iscsi_pdu", (p.bhs[0], p.flags, bool(p.ahs))):
                self.keep("iscsi_pdu", client, p.bhs + p.ahs)
        self.session(client, [p for p in pdus if p.opcode != LOGIN])
        self.commands(client, pdus)

    def texts(self, client, pdus):
        keys = [frozenset(re.findall(rb"(?:^|\0)([^=\0]+)=", p.data)) for p in pdus]
        for p, names in zip(pdus, keys):
            if p.data and self.is_new("iscsi_text", names):
                self.keep("iscsi_text", client, p.data)
        proof = [p.data for p, names in zip(pdus, keys)
                 if any(n.startswith(b"CHAP") for n in names)]
        if proof and self.is_new("iscsi_chap", frozenset().union(*keys)):
            self.keep("iscsi_chap", client, b"\xff".join(proof))

    def login(self, client, stream, pdus):
        # A few commands more or less make no other login.
        shape = tuple((p.bhs[0], p.flags, len(p.data) // 32) for p in pdus[:2])
        if self.is_new("iscsi_login", shape):
            self.keep("iscsi_login", client, stream[:LOGIN_MAX])

    def session(self, client, pdus):
        # With what comes after it, which may belong to it.
        chosen, follow = [], 0
        for p in pdus:
            follow = 2 if self.is_new("iscsi_session", p.feature()) else follow - 1
            if follow > 0:
                chosen.append(p.short())
        self.groups("iscsi_session", client, chosen, PDUS_OF_SEED,
                    bytes([PATIENT if client == "linux" else PATIENT | UNSOLICITED]))

    def commands(self, client, pdus):
        chosen = []
        for number, p in enumerate(pdus):
            if p.opcode != COMMAND or not self.is_new("scsi_cdb", p.feature()):
                continue
            data = p.data + b"".join(q.data for q in pdus[number + 1:number + 40]
                                     if q.opcode == DATA_OUT and q.bhs[16:20] == p.bhs[16:20])
            writes, reads = bool(p.flags & 0x20), bool(p.flags & 0x40)
            edtl = min(int.from_bytes(p.bhs[20:24], "big"), DATA_MAX if writes else 65535)
            flags = 2 | (4 if writes else 0) | (8 if reads else 0) | (p.flags & 7) << 5
            data = data[:edtl].ljust(edtl, b"\0") if writes else b""
            chosen.append(p.cdb + bytes([flags]) + edtl.to_bytes(2, "big") + data)
        self.groups("scsi_cdb", client, chosen, COMMANDS_OF_SEED)


def run(*words, limit_s=300):
    print("+", *words, flush=True)
    subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, timeout=limit_s, check=False)


def libiscsi(ear):
    url = f"{ear.url}/{IQN}/0"
    run("iscsi-ls", "-s", ear.url)
    run("iscsi-inq", url)
    run("iscsi-readcapacity16", url)
    run("iscsi-inq", ear.url.replace("//", "//user%a secret of sixteen@") + f"/{IQN}-closed/0")
    for suite in SUITES.split():
        run("iscsi-test-cu", "--dataloss", "--allow-sanitize", "--test", f"ALL.{suite}", url, url)


def qemu(ear):
    run("qemu-io", "-f", "raw", "-t", "writeback", "-c", "discard 0 1M", "-c", "write -z 1M 1M",
        "-c", "write -P 0x44 512 1536", "-c", "flush", "-c", "read 0 64k", "-c", "map",
        f"{ear.url}/{IQN}/0")


def linux(ear):
    text = LINUX.replace("IQN", IQN).replace("PORT", ear.url.rpartition(":")[2])
    with open("job", "w", encoding="utf-8") as f:
        f.write(text)
    subprocess.run([f"{TOP}/tests/vm/run.sh", "-n", "-t", "500", "job", f"{TOP}/tests/lib/wait.sh",
                    f"{TOP}/tests/vm/guest.sh"], stdin=subprocess.DEVNULL, check=True)


def main():
    seeds = Seeds()
    with zt.Server() as s:
        s.cli("iscsi", "create-target", IQN, "0", "64M")
        s.cli("iscsi", "create-target", IQN + "-closed", "0", "1M")
        subprocess.run([zt.ZEROFS, "iscsi", "auth", "set", IQN + "-closed", "user", "-c", s.config,
                        "--store-in-clear"], input="a secret of sixteen\n", text=True, check=True)
        ear = Ear(s.iscsi_port)
        s.configure(f'[servers.iscsi]\nadvertise = ["10.0.2.2:{ear.url.rpartition(":")[2]}"]\n')
        s.start()
        for client in (linux, qemu, libiscsi):
            client(ear)
            for stream in ear.take():
                seeds.take(client.__name__, stream)
        s.stop()
    for (target, client), count in sorted(seeds.counts.items()):
        print(target, client, count)


main()
