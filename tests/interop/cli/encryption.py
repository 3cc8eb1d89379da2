#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# heavy
"""Encryption as the operator meets it: who may open, in which words others are sent away, how the
password is changed, and that it is found nowhere."""
import os
import re
import subprocess

import nbd
import proxy
import stores
import zt

CONFIG, REFUSED, USAGE = 3, 6, 2
FIRST, SECOND, THIRD = "Ahsh3oob-first", "eeVoh9ki second $ \\ word", "oNg8Ioth the third one"
KEY = "00112233445566778899aabbccddeeff" * 2


def secured(s, lines):
    """The server's [encryption] says that from now on."""
    text = re.sub(r"\[encryption\]\n(?:[a-z_]+ = .*\n)*", f"[encryption]\n{lines}\n",
                  s.config_text())
    assert lines in text
    with open(s.config, "w", encoding="utf-8") as f:
        f.write(text)


def secret_file(s, name, text, mode=0o600):
    path = os.path.join(s.dir, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, mode)
    return path


def by_file(s, text):
    secured(s, f'password_file = "{secret_file(s, "password", text)}"')


def contents(s):
    return {name: stores.read(s.url, name) for name in stores.names(s.url)}


def refused(s, code, words, *command):
    """The command fails so, and neither it nor the server has touched anything."""
    before = contents(s)
    if wire:
        wire.requests()
    for words_of in (command,) if command else (("nbd", "list"), ("run",), ("nbd", "create", "x",
                                                                            "1M")):
        done = s.cli(*words_of, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == code and words in said, (words_of, done.returncode, said)
        for secret in (FIRST, SECOND, THIRD, KEY):
            assert secret not in said, said
    if wire and code == CONFIG:
        sent = {q["method"] for q in wire.requests()}
        assert sent <= {"GET", "HEAD"}, f"sent in spite of that: {sent}"
        assert sent or "ERR_" not in words, "nothing went by this wire"
    assert contents(s) == before


def devices(s):
    return s.cli("nbd", "list").stdout


def who_may_open(s):
    by_file(s, FIRST + "\n")
    s.cli("nbd", "create", "treasure", "8M")
    assert "treasure" in devices(s)
    by_file(s, SECOND)
    refused(s, CONFIG, "ERR_WRONG_PASSWORD")
    secured(s, f'key_file = "{secret_file(s, "key", KEY)}"')
    refused(s, CONFIG, "ERR_WRONG_PASSWORD")
    secured(s, 'mode = "none"')
    refused(s, CONFIG, "ERR_IS_ENCRYPTED")
    # Each way of telling the same.
    secured(s, f'password = "{FIRST}"')
    assert "treasure" in devices(s)
    os.environ["ZT_PASSWORD"] = FIRST
    secured(s, 'password = "${ZT_PASSWORD}"\ncipher = "chacha20-poly1305"')
    assert "treasure" in devices(s)
    del os.environ["ZT_PASSWORD"]


def what_is_no_secret(s):
    secured(s, f'password_file = "{s.dir}/nowhere"')
    refused(s, CONFIG, "No such file")
    by_file(s, "short\n")
    refused(s, CONFIG, "at least 8 bytes")
    secured(s, f'key_file = "{secret_file(s, "key", KEY[1:])}"')
    refused(s, CONFIG, "64 hexadecimal digits")
    secured(s, f'password = "{FIRST}"\nmode = "none"')
    refused(s, CONFIG, "only one of")
    secured(s, "")
    refused(s, CONFIG, 'mode = "none"')
    path = secret_file(s, "password", FIRST, 0o644)
    secured(s, f'password_file = "{path}"')
    done = s.cli("nbd", "list")
    assert "treasure" in done.stdout and "chmod 600" in done.stderr, done


def a_plain_volume(s):
    secured(s, 'mode = "none"')
    s.cli("nbd", "create", "open", "8M")
    refused(s, REFUSED, "there is no password", "change-password")
    by_file(s, FIRST)
    refused(s, CONFIG, "ERR_NOT_ENCRYPTED")
    refused(s, CONFIG, "ERR_NOT_ENCRYPTED", "change-password", "--new-password-file",
            secret_file(s, "new", SECOND))
    secured(s, 'mode = "none"')
    assert "open" in devices(s)


def change(s, text, *options, code=0):
    done = subprocess.run([zt.ZEROFS, "change-password", "-c", s.config, *options], text=True,
                          input=text, capture_output=True, timeout=60, check=False)
    assert done.returncode == code, done
    for secret in (FIRST, SECOND, THIRD, KEY):
        assert secret not in done.stdout + done.stderr, done
    return done.stdout + done.stderr


def keys_of(s):
    return [name for name in stores.names(s.url) if name.startswith("keys/")]


def changes(s, running):
    """From a password to another, to a key, and back; the volume is the same all the while."""
    by_file(s, FIRST)
    before, others = keys_of(s), {n for n in stores.names(s.url) if not n.startswith("keys/")}
    assert "at least 8 bytes" in change(s, "short\n", code=USAGE)
    assert "32 bytes" in change(s, None, "--new-key-file", secret_file(s, "bad", "x"), code=USAGE)
    assert keys_of(s) == before
    assert s.dir + "/password" in change(s, SECOND + "\n")
    after = keys_of(s)
    assert len(after) == 1 and after < before, (before, after)
    if not running:
        assert {n for n in stores.names(s.url) if not n.startswith("keys/")} == others
        refused(s, CONFIG, "ERR_WRONG_PASSWORD")
        refused(s, CONFIG, "ERR_WRONG_PASSWORD", "change-password", "--new-password-file",
                secret_file(s, "new", THIRD))
    by_file(s, SECOND)
    change(s, None, "--new-key-file", secret_file(s, "key", KEY))
    secured(s, f'key_file = "{s.dir}/key"')
    assert "treasure" in devices(s)
    change(s, None, "--new-password-file", secret_file(s, "new", FIRST + "\n"))
    by_file(s, FIRST)
    assert "treasure" in devices(s) and len(keys_of(s)) == 1


def served(s):
    h = nbd.NBD()
    h.connect_uri(f"nbd://127.0.0.1:{s.nbd_port}/treasure")
    h.pwrite(b"gold" * 1024, 0)
    changes(s, True)
    h.flush()
    assert h.pread(4096, 0) == b"gold" * 1024
    h.shutdown()


def found_in_memory(pid, secret):
    """Where the process has these bytes."""
    places = []
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps, open(f"/proc/{pid}/mem", "rb") as mem:
        for line in maps:
            area, rights = line.split()[:2]
            start, end = (int(word, 16) for word in area.split("-"))
            if not rights.startswith("rw"):
                continue
            mem.seek(start)
            try:
                if secret.encode() in mem.read(end - start):
                    places.append(line.strip())
            except OSError:
                continue
    return places


def nowhere_to_be_found(s, secret):
    """After its use a password is in no memory, on no command line, in no log."""
    secured(s, f'password = "{secret}"')
    s.start()
    assert found_in_memory(s.process.pid, s.nbd_socket), "the search finds nothing at all"
    places = found_in_memory(s.process.pid, secret)
    assert not places, places
    with open(f"/proc/{s.process.pid}/cmdline", encoding="utf-8") as f:
        assert secret not in f.read()
    assert secret not in s.log_text() + s.cli("status", "--json").stdout
    with open(f"/proc/{s.process.pid}/smaps", encoding="ascii") as f:
        assert any({"lo", "dd"} <= set(line.split()) for line in f if line.startswith("VmFlags"))
    s.stop()


wire = proxy.Proxy(stores.endpoint()).__enter__() if stores.KIND == "s3" else None
with zt.Server("sealed", endpoint=wire and wire.endpoint) as server:
    who_may_open(server)
    what_is_no_secret(server)
    changes(server, False)
    server.start()
    served(server)
    server.stop()
    assert "treasure" in devices(server)
    for one in (FIRST, "shorter1"):
        by_file(server, FIRST)
        change(server, one)
        nowhere_to_be_found(server, one)
        change(server, FIRST)
with zt.Server("plain", endpoint=wire and wire.endpoint) as server:
    a_plain_volume(server)
if wire:
    wire.__exit__(None, None, None)
