#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# compression: any (what a configuration may say)
"""A configuration with every kind of mistake: all are told at once, with file and line, by every
command, and nothing is touched."""
import os
import subprocess

import zt

CONFIG = 3

MISTAKES = """\
[storage]
url = "ftp://somewhere"
ownr = "me"
[cache]
memory_size_gb = "much"
disk_size_gb = -1
[filesystem]
compression = "zip"
[encryption]
mode = "rot13"
[servers.nbd]
addresses = ["localhost:10809",
             "127.0.0.1:99999"]
tls = "sometimes"
unix_socket = "$NO_SUCH_VARIABLE/x"
[servers.iscsi]
addresses = "127.0.0.1:3260"
[servers.nfs]
[runtime]
cores = 0
log_level = 3
"""
# line, a word of the message
WANTED = ((2, "storage.url"), (3, "storage.owner?"), (4, "dir is missing"),
          (5, "cache.memory_size_gb"), (6, "cache.disk_size_gb"), (8, "filesystem.compression"),
          (10, "encryption.mode"), (12, "localhost:10809"), (13, "127.0.0.1:99999"),
          (14, "servers.nbd.tls"), (15, "NO_SUCH_VARIABLE"), (17, "must be a list"),
          (18, "[servers.nfs]"), (20, "runtime.cores"), (21, "runtime.log_level"))


def run(path, *words):
    return subprocess.run([zt.ZEROFS, *words, "-c", path], text=True, capture_output=True,
                          stdin=subprocess.DEVNULL, timeout=zt.LIMIT_S, check=False)


def write(text):
    path = os.path.join(zt.TMPDIR, "bad.toml")
    with open(path, "wb") as f:
        f.write(text)
    return path


def everything_at_once():
    path = write(MISTAKES.encode())
    for words in (("run",), ("nbd", "list"), ("nbd", "create", "x", "1M"), ("status",)):
        done = run(path, *words)
        assert done.returncode == CONFIG and done.stdout == "", done
        lines = done.stderr.splitlines()
        for number, word in WANTED:
            assert any(line.startswith(f"{path}:{number}: ") and word in line for line in lines), \
                (number, word, done.stderr)
        assert len(lines) == len(WANTED), done.stderr
        # From the top of the file down; what is missing comes last.
        numbers = [int(line.split(":")[1]) for line in lines if "missing" not in line]
        assert numbers == sorted(numbers), done.stderr


def not_even_toml():
    for text, line in ((b"[storage\n", 1), (b"\n\nurl =\n", 3), (b"a = 1\na = 2\n", 2),
                       (b"a = \"\xff\"\n", 1), (b"\0\0\0\0", 1), (b"a = [[[[\n", 1),
                       (b"x = " + b"[" * 100000, 1)):
        path = write(text)
        done = run(path, "run")
        assert done.returncode == CONFIG, (text[:40], done)
        assert done.stderr.startswith(f"{path}:{line}: "), (text[:40], done.stderr[:300])


def not_a_file():
    for path in (os.path.join(zt.TMPDIR, "none.toml"), zt.TMPDIR):
        done = run(path, "run")
        assert done.returncode == CONFIG and path in done.stderr, done


def what_shows_only_when_serving(s):
    """Files and addresses that are well-formed and yet not usable end the start with a message."""
    with open(s.config, encoding="utf-8") as f:
        text = f.read()
    taken = f'"127.0.0.1:{s.nbd_port}"'
    for change, word in (
            ((taken, f'"127.0.0.1:{s.nbd_port}", "192.0.2.77:10809"'), "192.0.2.77"),
            ((f"{s.dir}/admin.sock", "/no/such/folder/admin.sock"), "/no/such/folder"),
            ((f"{s.dir}/cache", "/proc/no/cache"), "/proc/no/cache"),
            (("[admin]", 'tls = "allow"\ntls_cert = "/no.pem"\ntls_key = "/no.key"\n[admin]'),
             "servers.iscsi.tls"),
            (("[servers.iscsi]", 'tls = "allow"\ntls_cert = "/no.pem"\ntls_key = "/no.key"\n'
              "[servers.iscsi]"), "/no.pem")):
        path = os.path.join(zt.TMPDIR, "unusable.toml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text.replace(*change))
        done = run(path, "run")
        assert done.returncode != 0 and word in done.stderr, (change, done)
        assert "ready" not in done.stdout
    # None of the failed starts left the volume open or locked.
    s.start().stop()


everything_at_once()
not_even_toml()
not_a_file()
with zt.Server() as s:
    what_shows_only_when_serving(s)
