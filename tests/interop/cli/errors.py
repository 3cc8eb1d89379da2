#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# compression: any (what commands say and end with)
"""What commands refuse, in which words and with which exit code, with the server stopped and
running. Nothing that was refused leaves a trace."""
import json
import subprocess

import zt

IQN = "iqn.2024-01.net.zerofs:t"
FAILED, USAGE, CONFIG, NOT_FOUND, EXISTS, REFUSED = 1, 2, 3, 4, 5, 6

# exit code, what is said, words
TABLE = (
    (USAGE, "unknown command", "nonsense"),
    (USAGE, "unknown command", "nbd"),
    (USAGE, "unknown command", "nbd nonsense"),
    (USAGE, "unknown option --nam", "nbd create --nam x --size 1M"),
    (USAGE, "unexpected word", "nbd create x 1M 2M"),
    (USAGE, "given twice", "nbd create --name x --name y --size 1M"),
    (USAGE, "name of the new device is needed", "nbd create --size 1M"),
    (USAGE, "size of more than 0 bytes is needed", "nbd create x"),
    (USAGE, "size of more than 0 bytes is needed", "nbd create x 0"),
    (USAGE, "multiple of 512", "nbd create x 1000"),
    (USAGE, "multiple of 512", "nbd create x 513"),
    (USAGE, "at most", "nbd create x 1025P"),
    (USAGE, "unknown suffix", "nbd create x 1X"),
    (USAGE, "whole number of bytes", "nbd create x 0.1G"),
    (USAGE, "is not a size", "nbd create x --size=-1"),
    (USAGE, "is not a size", "nbd create x ten"),
    (USAGE, "name", "nbd create . 1M"),
    (USAGE, "name", "nbd create .. 1M"),
    (USAGE, "name", "nbd create a/b 1M"),
    (USAGE, "name", "nbd create a:b 1M"),
    (USAGE, "name", "nbd create \u00e4 1M"),
    (USAGE, "name", "nbd create " + 256 * "x" + " 1M"),
    (USAGE, "on or off", "nbd create x 1M --write-cache maybe"),
    (EXISTS, "already exists", "nbd create kept 1M"),
    (NOT_FOUND, "not found", "nbd info other"),
    (NOT_FOUND, "not found", "nbd resize other 1M"),
    (NOT_FOUND, "not found", "nbd delete other --force"),
    (NOT_FOUND, "not found", "nbd set other --write-cache on"),
    (USAGE, "name of a device is needed", "nbd info"),
    (USAGE, "name of a device is needed", "nbd delete --force"),
    (REFUSED, "--force", "nbd resize kept 512K"),
    (REFUSED, "--force", "nbd delete kept"),
    (USAGE, "multiple of 512", "nbd resize kept 1048577"),
    (USAGE, "size of more than 0 bytes", "nbd resize kept 0 --force"),
    (USAGE, "name of a target is needed", "iscsi create-target"),
    (USAGE, "", "iscsi create-target nonsense"),
    (USAGE, "", "iscsi create-target iqn.2024-13.net.zerofs:t"),
    (USAGE, "", "iscsi create-target iqn.24-01.net.zerofs:t"),
    (USAGE, "", "iscsi create-target iqn.2024-01"),
    (USAGE, "", "iscsi create-target eui.123"),
    (USAGE, "", "iscsi create-target naa.12345"),
    (USAGE, "", "iscsi create-target iqn.2024-01.net.zerofs:a/b"),
    (USAGE, "", "iscsi create-target iqn.2024-01.net.zerofs:" + 220 * "x"),
    (USAGE, "size", f"iscsi create-target {IQN}.x --lun 1"),
    (USAGE, "not a number", f"iscsi create-target {IQN}.x --lun one --size 1M"),
    (USAGE, "not a number", f"iscsi create-target {IQN}.x --lun=-1 --size 1M"),
    (USAGE, "0 to 16383", f"iscsi create-target {IQN}.x --lun 16384 --size 1M"),
    (EXISTS, "already exists", f"iscsi create-target {IQN}"),
    (EXISTS, "already exists", f"iscsi create-target {IQN} 5 1M"),
    (EXISTS, "LUN 0 already", f"iscsi add-lun {IQN} 0 1M"),
    (USAGE, "number and the size", f"iscsi add-lun {IQN}"),
    (USAGE, "number and the size", f"iscsi add-lun {IQN} --size 1M"),
    (USAGE, "size", f"iscsi add-lun {IQN} 3"),
    (NOT_FOUND, "not found", f"iscsi add-lun {IQN}.x 0 1M"),
    (NOT_FOUND, "not found", f"iscsi info {IQN}.x"),
    (NOT_FOUND, "has no LUN 3", f"iscsi resize-lun {IQN} 3 2M"),
    (NOT_FOUND, "has no LUN 3", f"iscsi remove-lun {IQN} 3 --force"),
    (NOT_FOUND, "has no LUN 3", f"iscsi set-lun {IQN} 3 --write-cache on"),
    (NOT_FOUND, "not found", f"iscsi delete-target {IQN}.x --force"),
    (USAGE, "number of a LUN is needed", f"iscsi remove-lun {IQN} --force"),
    (REFUSED, "--force", f"iscsi resize-lun {IQN} 0 512K"),
    (REFUSED, "--force", f"iscsi remove-lun {IQN} 0"),
    (REFUSED, "--force", f"iscsi delete-target {IQN}"),
)


def state(s):
    return s.cli("nbd", "list", "--json").stdout, s.cli("iscsi", "list", "--json").stdout


def check(s):
    kept = state(s)
    for code, said, words in TABLE:
        words = words.split(" ")
        done = s.cli(*words, check=False)
        assert done.returncode == code, (words, done.returncode, done.stderr)
        assert said in done.stderr and done.stderr.startswith("zerofs: "), (words, done.stderr)
        assert done.stdout == "", (words, done.stdout)
    assert state(s) == kept, "a refused command has changed something"
    # With --json a refused operation is told on standard output in the same form as on the socket.
    done = s.cli("nbd", "info", "other", "--json", check=False)
    error = json.loads(done.stdout)
    assert done.returncode == NOT_FOUND and error["ok"] is False, error
    assert error["error"]["kind"] == "not-found" and "other" in error["error"]["message"], error


def help_is_there():
    def run(*words):
        return subprocess.run([zt.ZEROFS, *words], text=True, capture_output=True, check=False)
    assert run().returncode == USAGE and run("--help").returncode == 0
    listed = [line.split("  ")[1].split()[1:] for line in run("help").stdout.splitlines()
              if line.startswith("  zerofs ")]
    assert ["iscsi", "reservations", "list"] in listed and len(listed) > 20, listed
    for words in listed:
        done = run(*words, "--help")
        assert done.returncode == 0 and done.stdout.startswith("usage: zerofs " + " ".join(words))
    # The first words of commands tell what there is.
    for words in (["nbd"], ["iscsi"], ["iscsi", "portal-group"]):
        family = [each for each in listed if each[:len(words)] == words]
        for done in (run(*words, "--help"), run(*words), run(*words, "nonsense")):
            told = [line.split("  ")[1].split()[1:] for line in
                    (done.stdout + done.stderr).splitlines() if line.startswith("  zerofs ")]
            assert told == family and len(family) > 4, (words, done)
        assert run(*words, "--help").returncode == 0 and run(*words).returncode == USAGE
    version = run("version")
    assert version.stdout == run("--version").stdout and version.stdout.startswith("zerofs 0.")


def without_a_volume(s):
    """Commands that only look do not make one."""
    for words in (("nbd", "list"), ("iscsi", "list"), ("status",), ("flush",),
                  ("nbd", "info", "x"), ("nbd", "delete", "x", "--force")):
        done = s.cli(*words, check=False)
        assert done.returncode == NOT_FOUND and "there is no volume at" in done.stderr, done
    assert zt.stores.names(s.url) == []


def in_memory():
    """A volume in memory is the server's alone: without one, a command would talk to itself."""
    with zt.Server("memory", url="memory:") as s:
        done = s.cli("nbd", "create", "x", "1M", check=False)
        assert done.returncode == REFUSED and "zerofs run" in done.stderr, done
        s.start()
        s.cli("nbd", "create", "x", "1M")
        assert "x" in s.cli("nbd", "list").stdout
        s.stop()


help_is_there()
in_memory()
with zt.Server() as s:
    without_a_volume(s)
    s.cli("nbd", "create", "kept", "1M")
    s.cli("iscsi", "create-target", IQN, "0", "1M")
    check(s)
    s.start()
    check(s)
    s.stop()
