#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# compression: any (it is about commands)
"""What ESXi sends, after VMware's public documents, answered as it needs it: the software adapter's
login, claiming a device, making a VMFS volume, ATS locks and heartbeats of two hosts, clone by
XCOPY, zeroing, UNMAP, and what it does when a path or a host is lost. docs/VMWARE.md has what is to
be tried with the real one."""
import os
import struct

import replay
import zt
from initiator import Initiator
from replay import BLOCK, CONFLICT, MISCOMPARE, POWER_ON

IQN = "iqn.2024-01.net.zerofs:vmfs"
HOSTS = ["iqn.1998-01.com.vmware:esx-1-4f2a", "iqn.1998-01.com.vmware:esx-2-77c0"]
MIB = 2048  # blocks
KEYS = {"HeaderDigest": "None", "DataDigest": "None", "ErrorRecoveryLevel": "0",
        "InitialR2T": "No", "ImmediateData": "Yes", "MaxRecvDataSegmentLength": "131072",
        "MaxBurstLength": "262144", "FirstBurstLength": "262144", "MaxConnections": "1",
        "MaxOutstandingR2T": "1", "DefaultTime2Wait": "0", "DefaultTime2Retain": "0",
        "DataPDUInOrder": "Yes", "DataSequenceInOrder": "Yes", "IFMarker": "No", "OFMarker": "No"}
VMFS, HEARTBEATS, LOCKS = 2048, 8192, 16384  # LBAs: the partition, and where a host locks in it


def connect(s, n):
    host = replay.Host(s.iscsi_port, IQN, HOSTS[n], KEYS, isid=bytes([0, 2, 0x3D, 0, 0, n]))
    assert host.agreed["MaxConnections"] == "1" and host.agreed["DataPDUInOrder"] == "Yes"
    assert host.agreed["ErrorRecoveryLevel"] == "0" and host.agreed["ImmediateData"] == "Yes"
    assert int(host.agreed["FirstBurstLength"]) <= int(host.agreed["MaxBurstLength"]) <= 262144
    return host


def discover(s):
    i = Initiator(s.iscsi_port, name=HOSTS[0]).login("Discovery")
    assert ("TargetName", IQN) in i.discover()
    i.close()


def claim(host):
    """Path discovery: what decides about VAAI, the format, and whether a path is known."""
    host.step("LUNs", "a0 00 00 0:24 16384:32 00 00", get=16384,
              has={"length": (0, 4, 16), "LUN 0": (8, 8, 0), "LUN 1": (16, 8, 1 << 48)})
    data = host.step("inquiry", "12 00 00 00 24 00", get=36,
                     has={"disk": (0, 1, 0), "version": (2, 1, lambda v: v >= 5),
                          "CmdQue": (7, 1, lambda v: v & 2), "3PC": (5, 1, lambda v: v & 8)})
    assert data[8:16] == b"ZEROFS  "
    host.step("inquiry", "12 00 00 00 ff 00", get=255)
    host.attention(POWER_ON)
    assert set(host.pages()) >= {0, 0x80, 0x83, 0x86, 0xB0, 0xB1, 0xB2}
    serial = host.step("serial", "12 01 80 00 ff 00", get=255)[4:]
    names = host.designators()
    assert len(names[0, 3]) in (8, 16) and names[0, 3][0] >> 4 in (3, 6), names  # NAA
    host.step("not there", "12 01 b9 00 ff 00", get=255, sense=(5, 0x2400))
    if data[5] & 0x30:  # VMW_SATP_ALUA
        host.step("port groups", "a3 0a 0:32 4096:32 00 00", get=4096,
                  has={"groups": (0, 4, lambda v: v >= 8)})
    host.step("capacity", "25 0:72", get=8, has={"block": (4, 4, BLOCK)})
    host.step("capacity", "9e 10 0:64 32:32 00 00", get=32,
              has={"block": (8, 4, BLOCK), "512n or 512e": (13, 1, lambda v: v & 15 in (0, 3)),
                   "LBPME, LBPRZ": (14, 1, lambda v: v & 0xC0 == 0xC0)})
    host.step("write protection", "1a 00 3f 00 ff 00", get=255,
              has={"WP": (2, 1, lambda v: not v & 0x80), "DPOFUA": (2, 1, lambda v: v & 0x10)})
    host.step("caching", "1a 00 08 00 ff 00", get=255,
              has={"page": (12, 1, lambda v: v & 0x3F == 8)})
    host.step("exceptions", "1a 00 1c 00 ff 00", get=255,
              has={"page": (12, 1, lambda v: v & 0x3F == 0x1C)})
    host.step("ATA passthrough", "85 0:120", get=512, sense=(5, 0x2000))
    host.step("SMART", "4d 00 6f 00 00 00 00 512:16 00", get=512, sense=(5, 0x2400))
    host.step("keys", "5e 00 00 00 00 00 00 4096:16 00", get=4096, has={"none": (4, 4, 0)})
    host.step("reservation", "5e 01 00 00 00 00 00 4096:16 00", get=4096, has={"none": (4, 4, 0)})
    return serial, names[0, 3]


def vaai(host):
    """esxcli storage core device vaai status get: ATS, Clone, Zero, Delete."""
    host.step("block limits", "12 01 b0 00 ff 00", get=255,
              has={"COMPARE AND WRITE": (5, 1, lambda v: v >= 1),
                   "UNMAP blocks": (20, 4, lambda v: v >= MIB),
                   "UNMAP descriptors": (24, 4, lambda v: v >= 1),
                   # VMFS6 reclaims by itself only if its 1 MiB is a multiple of that
                   "granularity": (28, 4, lambda v: 0 < v <= MIB and MIB % v == 0),
                   "alignment": (32, 4, 1 << 31),
                   "WRITE SAME blocks": (36, 8, lambda v: v == 0 or v >= MIB)})
    host.step("thin", "12 01 b2 00 ff 00", get=255,
              has={"LBPU, LBPWS, LBPRZ": (5, 1, lambda v: v & 0xC4 == 0xC4), "type": (6, 1, 2)})
    host.step("copy parameters", "84 03 0:64 512:32 00 00", get=512,
              has={"CSCDs": (8, 2, lambda v: v >= 2), "segments": (10, 2, lambda v: v >= 1),
                   "segment length": (16, 4, lambda v: v >= 4 << 20)})


def make_vmfs(host, blocks):
    """partedUtil and vmkfstools -C: the label, and the metadata zeroed and written."""
    label = struct.pack("<8sIIIIQQ", b"EFI PART", 0x10000, 92, 0, 0, 1, blocks - 1)
    label = label.ljust(512, b"\1")
    host.step("label", "28 00 0:32 00 1:16 00", get=512)
    host.step("no label", "28 00 1:32 00 1:16 00", get=512, has={"zero": (0, 8, 0)})
    for lba, data in ((0, b"\xaa" * 512), (1, label), (2, bytes(16384)),
                      (blocks - 33, bytes(16384)), (blocks - 1, label)):
        host.step("label", f"2a 00 {lba}:32 00 {len(data) // 512}:16 00", put=data)
    assert host.step("label", f"28 00 {blocks - 1}:32 00 1:16 00", get=512) == label
    old = os.urandom(BLOCK * 256)
    host.step("old data", f"8a 00 {VMFS + 100}:64 256:32 00 00", put=old)
    for lba in range(VMFS, VMFS + 16 * MIB, MIB):  # Zero
        host.step("zero", f"93 00 {lba}:64 {MIB}:32 00 00", put=bytes(512))
    assert not any(host.step("zeroed", f"88 00 {VMFS + 100}:64 256:32 00 00", get=256 * BLOCK))
    metadata = os.urandom(BLOCK * 128)
    host.step("metadata", f"8a 00 {VMFS + MIB}:64 128:32 00 00", put=metadata)
    assert host.step("metadata", f"88 00 {VMFS + MIB}:64 128:32 00 00", get=65536) == metadata


def ats(host, lba, test, image):
    host.step("ATS", f"89 00 {lba}:64 00 00 00 01 00 00", put=test + image)


def miscompare(host, lba, test, image):
    return host.information("ATS", f"89 00 {lba}:64 00 00 00 01 00 00", test + image, MISCOMPARE)


def lock(one, two):
    """Two hosts want the same on-disk lock; then their heartbeats."""
    free, of_one, of_two = bytes(512), b"\0" * 40 + b"1" * 472, b"\0" * 40 + b"2" * 472
    ats(one, LOCKS, free, of_one)
    assert miscompare(two, LOCKS, free, of_two) == 40  # where they differ
    assert two.step("whose", f"28 00 {LOCKS}:32 00 1:16 00", get=512) == of_one
    ats(one, LOCKS, of_one, free)
    ats(two, LOCKS, free, of_two)
    for n, host in enumerate((one, two)):
        at, image = HEARTBEATS + 8 * n, bytes(512)
        for beat in range(1, 20):
            new = struct.pack("<QQ", n + 1, beat).ljust(512, b"\0")
            ats(host, at, image, new)
            image = new
        # A heartbeat that was done, whose answer was lost, and that is sent again.
        assert miscompare(host, at, bytes(512), image) == 0
        assert host.step("heartbeat", f"28 00 {at}:32 00 1:16 00", get=512) == image
    two.step("two blocks", f"89 00 {LOCKS}:64 00 00 00 02 00 00", put=(of_two + free) * 2)


def xcopy(host, source, target, pairs, blocks=8192):
    """The data mover's clone: 4 MiB a segment. pairs: source and target LBAs."""
    units = b"".join(bytes([0xE4, 0, 0, 0, 1, 3, 0, len(naa)]) + naa.ljust(20, b"\0")
                     + struct.pack(">I", BLOCK) for naa in (source, target))
    segments = b"".join(struct.pack(">BBHHHHHQQ", 2, 0, 24, 0, 1, 0, blocks, at, to)
                        for at, to in pairs)
    put = struct.pack(">BBHIII", 0, 0x20, len(units), 0, len(segments), 0) + units + segments
    host.step("clone", f"83 0:72 {len(put)}:32 00 00", put=put)


def clone(host, here, there):
    data = os.urandom(BLOCK * 256)
    source, target = 32 * MIB, 64 * MIB
    host.step("write", f"8a 00 {source + 5000}:64 256:32 00 00", put=data)
    xcopy(host, here, here, [(source, target)])
    read = f"88 00 {target + 5000}:64 256:32 00 00"
    assert host.step("clone", read, get=len(data)) == data
    xcopy(host, here, there, [(source, target), (source + 8192, target + 8192)])
    host.lun = 1
    assert host.step("clone", read, get=len(data)) == data
    host.lun = 0
    host.step("write", f"8a 00 {source + 5000}:64 256:32 00 00", put=bytes(len(data)))
    assert host.step("clone", read, get=len(data)) == data


def reclaim(host):
    """vmkfstools, and the unmapping that VMFS6 does by itself: whole MiBs, some at a time."""
    replay.unmap(host, *((64 * MIB + n * MIB, MIB) for n in range(4)))
    data = host.step("unmapped", f"88 00 {64 * MIB + 5000}:64 256:32 00 00", get=256 * BLOCK)
    assert not any(data)
    host.step("blocks", f"9e 12 {64 * MIB}:64 24:32 00 00", get=24,
              has={"unmapped": (20, 1, lambda v: v & 15 != 0)})


def reservations(one, two):
    """Without ATS: SPC-2 reservations, and their end when a host does not let go."""
    one.step("reserve", "16 00 00 00 00 00")
    two.step("write", f"2a 00 {VMFS}:32 00 1:16 00", put=bytes(512), status=CONFLICT)
    two.step("reserve", "16 00 00 00 00 00", status=CONFLICT)
    one.step("release", "17 00 00 00 00 00")
    two.step("reserve", "16 00 00 00 00 00")
    assert one.manage(5) == 0  # vmkfstools -L lunreset
    for host in (one, two):
        done = host.run(bytes(6))  # which reset it was is the target's own business
        assert replay.sense_of(done)[0] == 6 and done.sense[12] == 0x29, done.sense.hex()
        host.attention()
    one.step("write", f"2a 00 {VMFS}:32 00 1:16 00", put=bytes(512))


def failures(s, one, two):
    """ABORT TASK of what has ended; a session that is lost comes back with the same ISID; a LUN
    that grows."""
    itt = one.itt
    one.step("read", "28 00 0:32 00 1:16 00", get=512)
    assert one.manage(1, itt) in (0, 1)
    one.close()
    one = connect(s, 0)
    one.attention(POWER_ON)
    s.cli("iscsi", "resize-lun", IQN, "0", "2G")
    for host in (one, two):
        host.attention(0x2A09)
        host.step("capacity", "9e 10 0:64 32:32 00 00", get=32,
                  has={"last": (0, 8, 2048 * MIB - 1)})
    return one


def main():
    with zt.Server() as s:
        s.cli("iscsi", "create-target", IQN, "0", "1G")
        s.cli("iscsi", "add-lun", IQN, "1", "1G")
        s.start()
        discover(s)
        one, two = connect(s, 0), connect(s, 1)
        first = claim(one)
        assert claim(two) == first  # one device over all paths
        one.lun = 1
        second = claim(one)
        assert second[0] != first[0] and second[1] != first[1]
        one.lun = 0
        vaai(one)
        make_vmfs(one, 1024 * MIB)
        lock(one, two)
        clone(one, first[1], second[1])
        reclaim(one)
        reservations(one, two)
        one = failures(s, one, two)
        one.logout()
        two.logout()


main()
