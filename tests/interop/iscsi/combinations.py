#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Data to and fro under every combination of the keys that decide how they travel."""
import itertools
import os
import random

import zt
from initiator import Initiator

IQN = "iqn.2024-01.net.zerofs:combinations"
SIZE = 45056 + 512  # three bursts and a bit of the middle MaxBurstLength, no whole number of 4 KiB


def expected_r2ts(i, size):
    unsolicited = 0
    burst = int(i.agreed["MaxBurstLength"])
    if i.agreed["ImmediateData"] == "Yes" or i.agreed["InitialR2T"] == "No":
        unsolicited = min(int(i.agreed["FirstBurstLength"]), burst, size)
    if i.agreed["InitialR2T"] == "Yes":
        unsolicited = min(unsolicited, i.send_len)
    return -(-(size - unsolicited) // burst)


def main():
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    print("SEED", seed)
    rng = random.Random(seed)
    with zt.Server() as s:
        s.cli("iscsi", "create-target", "--iqn", IQN, "--lun", "0", "--size", "64M")
        s.start()
        lengths = itertools.cycle((512, 8192, 262144))
        count = 0
        for immediate, r2t, first, burst, outstanding, header, data in itertools.product(
                ("Yes", "No"), ("Yes", "No"), (512, 4096, 65536), (512, 8192, 262144), (1, 2, 8),
                ("None", "CRC32C"), ("None", "CRC32C")):
            keys = {"ImmediateData": immediate, "InitialR2T": r2t, "FirstBurstLength": first,
                    "MaxBurstLength": burst, "MaxOutstandingR2T": outstanding,
                    "HeaderDigest": header, "DataDigest": data,
                    "MaxRecvDataSegmentLength": next(lengths)}
            i = Initiator(s.iscsi_port, IQN, {k: str(v) for k, v in keys.items()}).ready()
            for key in ("ImmediateData", "InitialR2T", "HeaderDigest", "DataDigest"):
                assert i.agreed[key] == str(keys[key]), (key, i.agreed)
            lba = rng.randrange(100000)
            payload = rng.randbytes(SIZE)
            done = i.write(lba, payload)
            assert done.r2ts == expected_r2ts(i, SIZE), (keys, done.r2ts)
            assert i.read(lba, SIZE // 512) == payload, keys
            i.logout()
            count += 1
        print(count, "combinations")
        s.stop()


main()
