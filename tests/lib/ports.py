# SPDX-License-Identifier: Apache-2.0
"""Ports for servers that may be ended and started again: below those that the kernel gives to
connections, so that no client takes one meanwhile, and no two tests have the same one."""
import contextlib
import random
import socket

# 10809 (NBD) and 3260 (iSCSI) are left alone; the kernel's own begin at 32768.
FIRST, END = 12000, 32000
reserved = []


def free_port():
    """It stays this process's until it ends: a name in the same network says so to the others."""
    while True:
        port = random.SystemRandom().randrange(FIRST, END)
        mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with contextlib.suppress(OSError), socket.socket() as s:
            mark.bind(f"\0zerofs-test-port-{port}")
            s.bind(("127.0.0.1", port))
            reserved.append(mark)
            return port
        mark.close()
