#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A search of the whole store and of the cache folder for names and contents that were planted
finds none when the volume is encrypted; on one that is not, it finds each of them, in objects and
in the cache, which shows that it searches well."""
import json
import os
import subprocess

import nbd
import s3
import stores
import zt

NAME = "planted-name-of-a-device"
IQN = "iqn.2024-01.net.planted:name-of-a-target"
OWNER = "planted-name-of-an-owner"
LINE = b"planted contents, line %08d: the quick brown fox jumps over the lazy dog\n"
BLOCKS = 512
FLUSHES = 1100  # more than make the memtable a table on the store


def contents():
    text = b"".join(LINE % n for n in range(BLOCKS * 64))
    return text[:BLOCKS * 4096]


def needles():
    words = [NAME, IQN, OWNER, IQN.split(":")[1], stores.PASSWORD, s3.SECRET_KEY]
    return [w.encode() for w in words] + [w.encode("utf-16-le") for w in words] + \
        [b"planted contents", b"the quick brown fox"]


def everything(s):
    """(where, bytes) of all objects with their names, and of all files of the cache."""
    for name in stores.names(s.url):
        yield "object " + name, name.encode() + b"\n" + stores.read(s.url, name)
    for folder, _, files in os.walk(os.path.join(s.dir, "cache")):
        for name in files:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                with open(path, "rb") as f:
                    yield "file " + path, name.encode() + b"\n" + f.read()


def plant(s):
    s.cli("nbd", "create", NAME, "16M")
    s.cli("iscsi", "create-target", "--iqn", IQN, "--lun", "0", "--size", "16M")
    s.start()
    h = nbd.NBD()
    h.set_export_name(NAME)
    h.connect_unix(s.nbd_socket)
    text = contents()
    h.pwrite(text, 0)
    h.flush()
    for n in range(FLUSHES):
        h.pwrite(text[:4096], (BLOCKS + n) * 4096, nbd.CMD_FLAG_FUA)
    h.shutdown()
    s.stop()
    # Another life reads it, through whatever caches there are.
    s.start()
    done = subprocess.run(["qemu-img", "convert", "-O", "raw",
                           f"nbd+unix:///{NAME}?socket={s.nbd_socket}",
                           os.path.join(s.dir, "image")], check=False)
    assert done.returncode == 0
    with open(os.path.join(s.dir, "image"), "rb") as f:
        assert f.read(len(text)) == text
    zt.wait_for(lambda: json.loads(s.cli("status", "--json").stdout)["disk_cache"]["entries"] > 0)
    s.kill()


def search(s):
    found, searched, kinds = {}, 0, set()
    for where, data in everything(s):
        searched += len(data)
        kinds.add(where.split()[1].split("/")[0])
        for needle in needles():
            if needle in data:
                found.setdefault(needle, []).append(where)
    print(f"{searched} bytes, {sorted(k for k in kinds if k)}; found:",
          {k: len(v) for k, v in found.items()}, flush=True)
    assert searched > 1 << 18
    return found


def volume(name, encryption, compression):
    extra = (f'[storage]\nowner = "{OWNER}"\n[filesystem]\ncompression = "{compression}"\n'
             f'[encryption]\n{encryption}\n')
    with zt.Server(name, extra=extra) as s:
        plant(s)
        return search(s)


def main():
    """Contents that LZ4 has packed are still found: the first of each frame lie there as they are.
    zstd leaves nothing to find, so what it would hide is kept as it is."""
    compression = stores.COMPRESSION if stores.COMPRESSION == "lz4" else "none"
    found = volume("clear", stores.CLEAR, compression)
    for word, kinds in ((NAME, ["object"]), (IQN, ["object"]), (OWNER, ["object"]),
                        ("planted contents", ["file", "object"])):
        where = found.get(word.encode(), [])
        assert sorted({place.split()[0] for place in where}) == kinds, \
            f"{word} is found in {where}: the search is blind"
    if stores.ENCRYPTED:
        found = volume("secret", f'password = "{stores.PASSWORD}"', compression)
        assert not found, found


main()
