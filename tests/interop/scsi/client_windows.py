#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# compression: any (it is about commands)
"""What Windows Server sends, after Microsoft's public documents, answered as it needs it: the
software initiator's login, bringing up a disk of more than 2 TiB, the storage tests of cluster
validation by three nodes with two paths each, thin provisioning and Retrim, offloaded copies (ODX).
docs/WINDOWS.md has what is to be tried with the real one."""
import os
import struct

import replay
import reserve
import zt
from initiator import Initiator
from replay import BLOCK, CONFLICT, POWER_ON

IQN = "iqn.2024-01.net.zerofs:cluster"
NODES = [f"iqn.1991-05.com.microsoft:node{n}.example.com" for n in (1, 2, 3)]
KEYS = {"HeaderDigest": "None,CRC32C", "DataDigest": "None,CRC32C", "ErrorRecoveryLevel": "2",
        "InitialR2T": "No", "ImmediateData": "Yes", "MaxRecvDataSegmentLength": "65536",
        "MaxBurstLength": "262144", "FirstBurstLength": "65536", "MaxConnections": "8",
        "MaxOutstandingR2T": "16", "DefaultTime2Wait": "0", "DefaultTime2Retain": "60",
        "DataPDUInOrder": "Yes", "DataSequenceInOrder": "Yes"}
BLOCKS = 3 << 31  # 3 TiB
REGISTRANTS_ONLY = reserve.WE_RO
PREEMPTED, RELEASED, REGISTRATIONS_PREEMPTED = 0x2A03, 0x2A04, 0x2A05


def connect(s, node, path=0):
    host = replay.Host(s.iscsi_port, IQN, NODES[node], KEYS,
                       isid=bytes([0x40, 0, 1, 0x37, 0, path]))
    assert host.agreed["HeaderDigest"] == "None" and host.agreed["DataDigest"] == "None"
    assert int(host.agreed["ErrorRecoveryLevel"]) <= 2
    assert 1 <= int(host.agreed["MaxConnections"]) <= 8
    host.run(bytes(6))
    host.attention()
    return host


def bring_up(s):
    """classpnp and disk: identity, capacity, caching, then the label of Initialize-Disk."""
    i = Initiator(s.iscsi_port, name=NODES[0]).login("Discovery")
    assert ("TargetName", IQN) in i.discover()
    i.close()
    host = replay.Host(s.iscsi_port, IQN, NODES[0], KEYS)
    host.step("LUNs", "a0 00 00 0:24 2048:32 00 00",
              get=2048, has={"length": (0, 4, 8)})
    host.step("inquiry", "12 00 00 00 24 00", get=36,
              has={"disk": (0, 1, 0), "SPC-3": (2, 1, lambda v: v >= 5),
                   "format, HiSup": (3, 1, lambda v: v & 15 == 2),
                   "CmdQue": (7, 1, lambda v: v & 2)})
    host.attention(POWER_ON)
    assert set(host.pages()) >= {0, 0x80, 0x83, 0xB0, 0xB1, 0xB2}
    host.step("serial", "12 01 80 00 ff 00", get=255, has={"length": (2, 2, lambda v: v > 0)})
    names = host.designators()
    assert {(0, 3), (0, 8)} & set(names) and (1, 4) in names, names  # of the unit; of the port
    host.step("capacity", "25 0:72", get=8, has={"more than 2 TiB": (0, 4, 0xFFFFFFFF)})
    host.step("capacity", "9e 10 0:64 32:32 00 00", get=32,
              has={"last": (0, 8, BLOCKS - 1), "block": (8, 4, BLOCK),
                   "512e": (13, 1, lambda v: v & 15 == 3), "thin": (14, 1, lambda v: v & 0x80)})
    host.step("all modes", "1a 00 3f 00 c0 00", get=192,
              has={"WP": (2, 1, lambda v: not v & 0x80), "DPOFUA": (2, 1, lambda v: v & 0x10)})
    host.step("caching", "5a 00 08 00 00 00 00 192:16 00", get=192,
              has={"WCE": (18, 1, lambda v: v & 4)})
    host.step("failure prediction", "1a 00 1c 00 c0 00", get=192)
    host.step("rotation", "12 01 b1 00 40 00", get=64, has={"SSD": (4, 2, 1)})
    host.step("sanitized", "5a 00 0d 00 00 00 00 192:16 00", get=192, sense=(5, 0x2400))
    host.step("enclosure", "1c 01 01 255:16 00", get=255, sense=(5, 0x2400))
    label(host)
    host.logout()


def label(host):
    header = struct.pack("<8sIIIIQQ", b"EFI PART", 0x10000, 92, 0, 0, 1, BLOCKS - 1)
    header = header.ljust(512, b"\0")
    host.step("no label", "88 00 0:64 1:32 00 00", get=512, has={"zero": (510, 2, 0)})
    for lba, data in ((0, bytes(510) + b"\x55\xaa"), (1, header), (2, bytes(32 * BLOCK)),
                      (BLOCKS - 33, bytes(32 * BLOCK)), (BLOCKS - 1, header)):
        host.step("label", f"8a 00 {lba}:64 {len(data) // BLOCK}:32 00 00", put=data)
    host.step("flush", "35 0:72")
    assert host.step("label", f"88 00 {BLOCKS - 1}:64 1:32 00 00", get=512) == header
    log = os.urandom(8 * BLOCK)
    host.step("NTFS log, FUA", f"8a 08 {1 << 32}:64 8:32 00 00", put=log)
    assert host.step("read", f"88 00 {1 << 32}:64 8:32 00 00", get=len(log)) == log
    host.step("scan", f"8f 00 {1 << 32}:64 8:32 00 00")
    host.step("beyond the end", f"88 00 {BLOCKS}:64 1:32 00 00", get=512, sense=(5, 0x2100))


def pr_out(node, action, key, action_key, status=0, kind=REGISTRANTS_ONLY):
    got = reserve.out(node, action, kind, key, action_key)
    assert got == status, (action, hex(key), hex(action_key), got)


def keys_of(node):
    data = node.step("keys", "5e 00 00 00 00 00 00 4096:16 00", get=4096)
    return sorted(struct.unpack(f">{(len(data) - 8) // 8}Q", data[8:]))


def holder_of(node):
    data = node.step("reservation", "5e 01 00 00 00 00 00 4096:16 00", get=4096)
    assert len(data) in (8, 24), data.hex()
    return (replay.field(data, 8, 8), data[21]) if len(data) == 24 else None


def may_write(node, status=0):
    node.step("write", "2a 00 100:32 00 8:16 00", put=b"c" * 8 * BLOCK, status=status)


def validation(one, two, three):
    """"Validate SCSI-3 Persistent Reservation" and "Validate Disk Arbitration"."""
    one.step("capabilities", "5e 02 00 00 00 00 00 8:16 00", get=8,
             has={"TMV": (3, 1, lambda v: v & 0x80),
                  "registrants only": (4, 1, lambda v: v & 0x20)})
    assert keys_of(one) == [] and holder_of(one) is None
    pr_out(one, reserve.REGISTER, 0, 1)
    pr_out(one, reserve.REGISTER, 9, 8, CONFLICT)  # not its key
    pr_out(two, reserve.RESERVE, 2, 0, CONFLICT)  # not registered
    pr_out(two, reserve.REGISTER_IGNORE, 0, 2)
    assert keys_of(three) == [1, 2]
    pr_out(one, reserve.RESERVE, 1, 0)
    pr_out(one, reserve.RESERVE, 1, 0)  # it has it already
    pr_out(two, reserve.RESERVE, 2, 0, CONFLICT)
    assert holder_of(two) == (1, REGISTRANTS_ONLY)
    for node in (one, two):
        may_write(node)
    may_write(three, CONFLICT)
    three.step("read", "28 00 100:32 00 8:16 00", get=8 * BLOCK)
    three.step("reserve", "16 00 00 00 00 00", status=CONFLICT)
    three.step("ready", "00 0:40")
    # The challenger takes the disk from its owner, who hears of it and may write no more.
    pr_out(two, reserve.PREEMPT, 2, 1)
    assert keys_of(two) == [2] and holder_of(two) == (2, REGISTRANTS_ONLY)
    one.attention(REGISTRATIONS_PREEMPTED)
    may_write(one, CONFLICT)
    pr_out(one, reserve.RESERVE, 1, 0, CONFLICT)
    # He registers again, and takes it back, aborting what the other has under way.
    pr_out(one, reserve.REGISTER_IGNORE, 0, 1)
    pr_out(one, reserve.PREEMPT_ABORT, 1, 2)
    two.attention(REGISTRATIONS_PREEMPTED)
    assert holder_of(two) == (1, REGISTRANTS_ONLY) and keys_of(two) == [1]


def failover(s, one, two):
    """MPIO registers each path; reservation and registrations outlive the sessions."""
    other_path = connect(s, 0, path=1)
    assert other_path.designators() == one.designators()
    pr_out(other_path, reserve.REGISTER_IGNORE, 0, 1)
    assert keys_of(one) == [1, 1]
    one.close()
    may_write(other_path)
    one = connect(s, 0)  # the path is back, as the same nexus
    may_write(one)
    assert keys_of(two) == [1, 1] and holder_of(two) == (1, REGISTRANTS_ONLY)
    pr_out(two, reserve.REGISTER, 0, 2)
    pr_out(one, reserve.RELEASE, 1, 0)
    for node in (two, other_path):
        node.attention(RELEASED)
    assert holder_of(one) is None
    pr_out(two, reserve.RESERVE, 2, 0)
    pr_out(one, reserve.CLEAR, 1, 0)
    for node in (two, other_path):
        node.attention(PREEMPTED)
    assert keys_of(one) == [] and holder_of(one) is None
    other_path.logout()
    return one


def provisioned(host, lba):
    """The slab map: whether what is there is mapped, and for how many blocks that holds."""
    data = host.step("slabs", f"9e 12 {lba}:64 4096:32 00 00", get=4096,
                     has={"descriptors": (0, 4, lambda v: v >= 20), "first": (8, 8, lba)})
    mapped, blocks = data[20] & 15 == 0, 0
    for at in range(8, len(data), 16):
        assert replay.field(data, at, 8) == lba + blocks, data.hex()
        if (data[at + 12] & 15 == 0) != mapped:
            break
        blocks += replay.field(data, at + 8, 4)
    return mapped, blocks


def thin(host):
    """File deletes, Optimize-Volume -ReTrim, and what Get-Disk says of provisioning."""
    host.step("thin", "12 01 b2 00 40 00", get=64,
              has={"LBPU, LBPRZ": (5, 1, lambda v: v & 0x84 == 0x84), "type": (6, 1, 2)})
    data = host.step("block limits", "12 01 b0 00 40 00", get=64)
    assert replay.field(data, 24, 4) >= 1 and replay.field(data, 20, 4) > 0
    granularity = replay.field(data, 28, 4)
    host.step("thresholds", "5a 00 1c 02 00 00 00 192:16 00", get=192)
    host.step("used", "4d 00 4c 00 00 00 00 512:16 00", get=512, has={"page": (0, 1, 0x0C)})
    at, some = 1 << 24, 2048
    for n in range(4):
        host.step("file", f"8a 00 {at + n * some}:64 {some}:32 00 00", put=b"f" * some * BLOCK)
    host.step("flush", "35 0:72")
    assert provisioned(host, at) == (True, 4 * some)
    replay.unmap(host, (at, some), (at + 2 * some, some))
    assert some % granularity == 0 and provisioned(host, at) == (False, some)
    assert provisioned(host, at + some) == (True, some)
    assert not any(host.step("read", f"88 00 {at}:64 {some}:32 00 00", get=some * BLOCK))
    for _ in range(2):  # what is free already
        replay.unmap(host, *((at + n * (1 << 22), 1 << 22) for n in range(8)))
    assert provisioned(host, at)[0] is False and provisioned(host, at + some)[0] is False


def ranges(where):
    text = b"".join(struct.pack(">QIxxxx", lba, blocks) for lba, blocks in where)
    return struct.pack(">H", len(text)) + text


def read_offloaded(host, number, where):
    """FSCTL_OFFLOAD_READ: the token, which stands for all of it."""
    put = bytes(12) + ranges(where)
    put = struct.pack(">H", len(put)) + put
    host.step("populate", f"83 10 00 00 00 00 {number}:32 {len(put)}:32 00 00", put=put)
    data = result(host, number, 0x10, sum(blocks for _, blocks in where))
    at = 32 + data[13]
    assert replay.field(data, at, 4) == 2 + 512 and len(data) == at + 4 + 2 + 512, data.hex()
    return data[at + 6:]


def result(host, number, action, blocks):
    return host.step("information", f"84 07 {number}:32 0:32 1024:32 00 00", get=1024,
                     has={"of": (4, 1, lambda v: v & 31 == action), "status": (5, 1, 1),
                          "units": (15, 1, 0xF1), "blocks": (16, 8, blocks)})


def write_offloaded(host, number, token, where, offset=0):
    """FSCTL_OFFLOAD_WRITE: how the command ended."""
    put = struct.pack(">B5xQ", 0, offset) + token + bytes(6) + ranges(where)
    put = struct.pack(">H", len(put)) + put
    return host.run(replay.cdb(f"83 11 00 00 00 00 {number}:32 {len(put)}:32 00 00"), out=put)


def offload(host, other):
    """A file is copied by token, by another node too; what cannot be is told so that the copy
    engine goes on by reads and writes."""
    host.step("third party copy", "12 01 8f 04 00 00", get=1024,
              has={"limits": (4, 2, 0), "length": (6, 2, 0x20),
                   "ranges": (14, 2, lambda v: v >= 1), "timeout": (16, 4, lambda v: v >= 30),
                   "token blocks": (24, 8, lambda v: v >= 2048),
                   "optimal": (32, 8, lambda v: v >= 2048)})
    source, target, blocks = 1 << 25, 1 << 26, 2048
    data = os.urandom(blocks * BLOCK)
    host.step("file", f"8a 00 {source}:64 {blocks}:32 00 00", put=data)
    token = read_offloaded(host, 1, [(source + 1024, 1024), (source, 1024)])
    host.step("overwritten", f"93 00 {source}:64 {blocks}:32 00 00", put=bytes(512))
    for number, node in enumerate((host, other)):
        to = target + number * blocks
        assert write_offloaded(node, 2, token, [(to + 1024, 1024)]).status == 0
        result(node, 2, 0x11, 1024)
        assert write_offloaded(node, 3, token, [(to, 1024)], 1024).status == 0
        assert node.step("copy", f"88 00 {to}:64 {blocks}:32 00 00", get=len(data)) == data
    zero = struct.pack(">IxxH", 0xFFFF0001, 0x1F8).ljust(512, b"\0")
    assert write_offloaded(host, 4, zero, [(target, blocks)]).status == 0
    assert not any(host.step("zero", f"88 00 {target}:64 {blocks}:32 00 00", get=len(data)))
    forged = token[:100] + bytes([token[100] ^ 1]) + token[101:]
    key, code, _ = replay.sense_of(write_offloaded(host, 5, forged, [(target, blocks)]))
    assert key == 5 and code >> 8 == 0x23, (key, hex(code))  # INVALID TOKEN OPERATION
    key, code, _ = replay.sense_of(write_offloaded(host, 6, token, [(BLOCKS, 8)]))
    assert (key, code) == (5, 0x2100), (key, hex(code))


def main():
    with zt.Server() as s:
        s.cli("iscsi", "create-target", IQN, "0", "3T")
        s.start()
        bring_up(s)
        one, two, three = (connect(s, n) for n in range(3))
        validation(one, two, three)
        one = failover(s, one, two)
        thin(one)
        offload(one, two)
        for node in (one, two, three):
            node.logout()


main()
