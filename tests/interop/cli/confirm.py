#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# compression: any (questions and answers of commands)
"""Deletion asks on a terminal; only a yes deletes."""
import os
import pty

import zt

IQN = "iqn.2024-01.net.zerofs:t"
REFUSED = 6


def on_terminal(s, answer, *words):
    """Runs a command on a terminal of its own, answers its question: exit code, what it printed."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(zt.ZEROFS, [zt.ZEROFS, *words, "-c", s.config])
    said, answered = b"", answer is None
    while True:
        try:
            part = os.read(fd, 4096)
        except OSError:
            break
        if not part:
            break
        said += part
        if not answered and b"[y/N] " in said:
            os.write(fd, answer)
            answered = True
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(fd)
    assert answered, said
    return code, said.decode()


def check(s):
    s.cli("nbd", "create", "a", "1M")
    s.cli("iscsi", "create-target", IQN, "0", "1M")
    for words, name in ((("nbd", "delete", "a"), "'a'"),
                        (("iscsi", "remove-lun", IQN, "0"), IQN),
                        (("iscsi", "delete-target", IQN), IQN)):
        for answer in (b"n\n", b"\n", b"no\n", b"x\n", b"\x04"):
            code, said = on_terminal(s, answer, *words)
            assert code == REFUSED and name in said and "cancelled" in said, (words, code, said)
    assert s.cli("nbd", "info", "a").returncode == 0
    assert "LUN 0" in s.cli("iscsi", "info", IQN).stdout

    for answer, words in ((b"y\n", ("nbd", "delete", "a")),
                          (b"Yes\n", ("iscsi", "remove-lun", IQN, "0")),
                          (b"Y\n", ("iscsi", "delete-target", IQN))):
        code, said = on_terminal(s, answer, *words)
        assert code == 0 and "Deleted" in said, (words, code, said)
    assert "No NBD devices" in s.cli("nbd", "list").stdout
    assert "No iSCSI targets" in s.cli("iscsi", "list").stdout

    # With --force there is no question.
    s.cli("nbd", "create", "a", "1M")
    code, said = on_terminal(s, None, "nbd", "delete", "a", "--force")
    assert code == 0 and "[y/N]" not in said, (code, said)


with zt.Server() as s:
    check(s)
    s.start()
    check(s)
    s.stop()
