#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""All targets as one description: what is applied comes out again, twice is once, a dry run changes
nothing, data is lost by force only, and sessions that a change is not about go on."""
import copy
import json
import os
import stat
import threading

import chap
import zt
from initiator import Initiator

A, B = "iqn.2024-01.net.zerofs:a", "iqn.2024-01.net.zerofs:b"
SECRET, OTHER = "first secret of all", "the target's answer"


def apply(s, description, *options, code=0):
    path = os.path.join(s.dir, "description.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(description, f)
    done = s.cli("iscsi", "apply", path, "--store-in-clear", "--json", *options, check=False)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert SECRET not in done.stdout + done.stderr
    got = json.loads(done.stdout) if done.stdout else {"error": {"message": done.stderr}}
    return got["changes"] if code == 0 else got["error"]["message"]


def export(s, *options):
    return json.loads(s.cli("iscsi", "export", *options).stdout)


def export_whole(s):
    path = os.path.join(s.dir, "kept")
    s.cli("iscsi", "export", path, "--with-secrets")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def sample(s):
    with open(os.path.join(s.dir, "secret"), "w", encoding="ascii") as f:
        f.write(SECRET + "\n")
    return {
        "version": 1,
        "discovery": {"auth": {"accounts": []}},
        "targets": [
            {"iqn": A,
             "luns": [{"lun": 0, "size": "8M"}, {"lun": 3, "size": 4194304, "sector": 4096,
                                                 "write_cache": False}],
             "auth": {"minimum": "sha1",
                      "accounts": [{"user": "u", "initiator": "iqn.*", "secret_file": "secret"}],
                      "mutual": {"user": "t", "secret": OTHER}},
             "acl": [{"initiator": "iqn.*", "address": "127.0.0.0/8"}],
             "maps": [{"initiator": "*", "lun": 7, "device": 3, "read_only": True}]},
            {"iqn": B, "luns": [{"lun": 0, "size": "4M"}]},
        ],
    }


def mistakes(s, good):
    def spoil(change):
        bad = copy.deepcopy(good)
        change(bad)
        return apply(s, bad, code=2)

    assert "aclx" in spoil(lambda d: d["targets"][0].update(aclx=[]))
    assert "twice" in spoil(lambda d: d["targets"].append({"iqn": A}))
    assert "twice" in spoil(lambda d: d["targets"][1]["luns"].append({"lun": 0, "size": 512}))
    assert "network" in spoil(lambda d: d["targets"][0]["acl"][0].update(address="127.0.0.1/8"))
    assert "version" in spoil(lambda d: d.update(version=2))
    assert "12 bytes" in spoil(lambda d: d["targets"][0]["auth"]["mutual"].update(secret="short"))
    assert "no secret" in spoil(lambda d: d["targets"][0]["auth"]["mutual"].pop("secret"))
    assert "LUN 3: the size must be a multiple" in spoil(
        lambda d: d["targets"][0]["luns"][1].update(size=512))
    assert "LUN 0: --sector" in spoil(lambda d: d["targets"][1]["luns"][0].update(sector=1024))
    assert "each direction" in spoil(
        lambda d: d["targets"][0]["auth"]["mutual"].update(secret=SECRET))


def there_and_back(s, good):
    assert len(apply(s, good, "--dry-run")) == 6
    assert s.cli("iscsi", "list", check=False).stdout.strip() in ("No iSCSI targets found", "")
    assert len(apply(s, good)) == 6
    assert apply(s, good) == []
    got = export(s)
    assert SECRET not in json.dumps(got) and "secret" not in json.dumps(got)
    # Somebody is shown that LUN: it does not go as long as he is.
    assert "not in the desc" in apply(s, {**good, "targets": [
        {**good["targets"][0], "luns": good["targets"][0]["luns"][:1]}]}, "--force", code=2)
    assert got["targets"][0]["luns"][1] == {"lun": 3, "size": 4194304, "write_cache": False,
                                            "read_only": False, "sector": 4096, "physical": 4096}
    assert got["targets"][0]["acl"] == good["targets"][0]["acl"]
    assert got["targets"][0]["maps"] == good["targets"][0]["maps"]
    assert apply(s, got) == []  # accounts without secrets keep theirs
    s.cli("iscsi", "export", "--with-secrets", check=False)
    whole = export_whole(s)
    assert SECRET.encode().hex() in json.dumps(whole)
    with zt.Server("copy") as other:
        assert len(apply(other, whole)) == 6
        assert export(other) == got
        # A map whose LUN was removed stays, and is no reason not to take what was exported.
        other.cli("iscsi", "remove-lun", A, "3", "--force")
        left = export(other)
        assert apply(other, left) == []
        whole = export_whole(other)
    with zt.Server("third") as third:
        changes = apply(third, whole)
        assert f"~ {A}: auth acl maps; a map leads to LUN 3, which is not there" in changes, changes
        assert export(third) == left and apply(third, left) == []


class Reader(threading.Thread):
    """Reads, and takes no other trouble than unit attentions."""

    def __init__(self, initiator):
        super().__init__(daemon=True)
        self.initiator, self.over, self.told = initiator, threading.Event(), []
        self.rounds = 0
        self.start()
        zt.wait_for(lambda: self.rounds)

    def run(self):
        while not self.over.is_set():
            done = self.initiator.run(bytes([0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]), 512)
            if done.status:
                self.told.append((done.sense[2], done.sense[12:14].hex()))
            self.rounds += 1

    def ends_with(self, *codes):
        """It was told these, and nothing else."""
        wanted = {(6, code) for code in codes}
        zt.wait_for(lambda: wanted <= set(self.told))
        self.over.set()
        self.join(zt.LIMIT_S)
        assert not self.is_alive() and wanted == set(self.told), self.told


def running(s, good):
    a = Initiator(s.iscsi_port, A)
    chap.login(a, "u", SECRET, "7", ("t", OTHER))
    b = Initiator(s.iscsi_port, B).ready()
    now = copy.deepcopy(good)
    now["targets"][1]["luns"] = [{"lun": 0, "size": "6M", "read_only": True},
                                 {"lun": 1, "size": "4M"}]
    now["targets"][1]["acl"] = [{"initiator": "iqn.2024-01.test:raw"}]
    goes_on = Reader(b)
    changes = apply(s, now)
    assert len(changes) == 4 and all(B in c for c in changes), changes
    assert a.nop().data == b"ping"
    # Of the LUN, of the growth of the other one, and that it is protected now.
    goes_on.ends_with("3f0e", "2a09", "2a01")
    assert len(json.loads(s.cli("iscsi", "sessions", "--json").stdout)["sessions"]) == 2
    now["targets"][1]["acl"] = [{"initiator": "iqn.2024-01.test:nobody"}]
    assert apply(s, now) == [f"~ {B}: acl"]
    assert b.is_dropped()
    gone = copy.deepcopy(now)
    del gone["targets"][1]
    del gone["targets"][0]["luns"][0]
    assert B in apply(s, gone, code=6)
    assert len(export(s)["targets"]) == 2
    zt.wait_for(lambda: "clients" not in apply(s, gone, "--dry-run"))
    changes = apply(s, gone, "--force", "--disconnect")
    assert [c[0] for c in changes] == ["-", "-"], changes
    assert [t["iqn"] for t in export(s)["targets"]] == [A]
    assert a.nop().data == b"ping"


def main():
    with zt.Server() as s:
        good = sample(s)
        mistakes(s, good)
        there_and_back(s, good)
        s.start()
        running(s, good)


main()
