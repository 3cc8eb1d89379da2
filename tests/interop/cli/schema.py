#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# compression: any (what commands print)
"""Every command, with the server stopped and with it running: both forms of arguments, and --json
against the schema that docs/CLI.md documents, field by field."""
import json
import re

import zt
from initiator import Initiator

IQN = "iqn.2024-01.net.zerofs:storage"
TEXT, NUMBER, FLAG = str, int, bool

DEVICE = {"name": TEXT, "uuid": TEXT, "inode": NUMBER, "size": NUMBER, "write_cache": FLAG,
          "read_only": FLAG, "logical_block_size": NUMBER, "physical_block_size": NUMBER,
          "created": NUMBER, "attached": NUMBER, "clients": [TEXT]}
LUN = dict(DEVICE, lun=NUMBER, removable=FLAG, ejected=FLAG, write_same_to_end=FLAG,
           sanitize=TEXT)
NULL = type(None)
SESSION = dict.fromkeys(("target", "initiator", "address", "portal", "isid"), TEXT) | {
    **dict.fromkeys(("portal_group", "tsih", "cid", "connections", "age_seconds", "commands",
                     "bytes_read", "bytes_written"), NUMBER),
    "auth": {"method": TEXT, "algorithm": (TEXT, NULL), "user": (TEXT, NULL), "mutual": FLAG},
    "header_digest": FLAG, "data_digest": FLAG}
SESSIONS = {"running": FLAG, "sessions": [SESSION]}
TARGET = {"iqn": TEXT, "uuid": TEXT, "created": NUMBER, "luns": [LUN]}
KINDS = ("put", "get", "head", "list", "delete")
STATUS = {
    "version": TEXT, "running": FLAG, "owner": TEXT,
    "volume": {"url": TEXT, "uuid": TEXT, "compression": TEXT, "encryption": TEXT,
               "fenced": FLAG, "dirty_bytes": NUMBER, "undurable_bytes": NUMBER,
               "dirty_limit_bytes": NUMBER, "batches": NUMBER,
               "segments_in_flight": NUMBER, "segments_stored": NUMBER,
               "segments_live": NUMBER, "live_blocks": NUMBER, "range_holes": NUMBER,
               "bad_pages": NUMBER, "flushes": NUMBER, "rotations": NUMBER,
               "stored_through": NUMBER},
    "block_cache": dict.fromkeys(("hits", "misses", "bytes", "capacity_bytes", "evictions",
                                  "read_ahead_used", "read_ahead_wasted"), NUMBER),
    "store": {"away_ms": NUMBER, "requests": {k: {"*": NUMBER} for k in KINDS},
              "errors": {k: NUMBER for k in KINDS},
              "bytes_in": NUMBER, "bytes_out": NUMBER,
              "latency_us_log2": {k: [NUMBER] for k in KINDS},
              "latency_us_log2_by_class": {k: {"*": [NUMBER]} for k in KINDS}},
    "memory": {"limit_bytes": NUMBER, "accounted_bytes": NUMBER, "by_owner": {"*": NUMBER}},
    "disk_cache": dict.fromkeys(
        ("hits", "misses", "bytes", "capacity_bytes", "entries", "evictions", "dropped",
         "passed_by", "corrupt", "errors", "timeouts", "bytes_read", "bytes_written"),
        NUMBER) | {"bypassed": FLAG},
}
SERVERS = {
    "nbd": {"connections": NUMBER, "handshakes": NUMBER, "handshake_failures": NUMBER,
            "requests": NUMBER, "errors": NUMBER, "bytes_in": NUMBER, "bytes_out": NUMBER,
            "latency_us_log2": [NUMBER]},
    "iscsi": {"sessions": NUMBER, "connections": NUMBER, "logins": NUMBER,
              "login_failures": NUMBER, "auth_failures": NUMBER, "commands": NUMBER,
              "digest_errors": NUMBER, "rejects": NUMBER, "latency_us_log2": [NUMBER]},
    "uptime_seconds": NUMBER,
}


def conforms(value, schema, at="result"):
    if isinstance(schema, dict):
        assert isinstance(value, dict), (at, value)
        if "*" not in schema:
            assert value.keys() == schema.keys(), (at, sorted(value.keys() ^ schema.keys()))
        for key, part in value.items():
            conforms(part, schema.get(key, schema.get("*")), f"{at}.{key}")
    elif isinstance(schema, list):
        assert isinstance(value, list), (at, value)
        for i, part in enumerate(value):
            conforms(part, schema[0], f"{at}[{i}]")
    else:
        assert type(value) in (schema if isinstance(schema, tuple) else (schema,)), (
            at, value, schema)
        if schema is NUMBER:
            assert value >= 0, (at, value)
        if at.endswith(".uuid"):
            assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", value), value


def result(s, schema, *words):
    value = json.loads(s.cli(*words, "--json").stdout)
    conforms(value, schema, " ".join(words))
    return value


def text(s, *words):
    done = s.cli(*words)
    assert done.stdout.endswith("\n"), done.stdout
    return done.stdout


def nbd(s, tag):
    made = result(s, DEVICE, "nbd", "create", "--name", f"{tag}-a", "--size", "1.5M")
    assert (made["name"], made["size"], made["write_cache"]) == (f"{tag}-a", 3 << 19, True), made
    assert (made["attached"], made["clients"]) == (0, []), made
    assert (made["logical_block_size"], made["physical_block_size"]) == (512, 4096), made
    other = result(s, DEVICE, "nbd", "create", f"{tag}-b", "64M", "--write-cache", "off")
    assert (other["name"], other["size"], other["write_cache"]) == (f"{tag}-b", 64 << 20, False)
    assert other["uuid"] != made["uuid"] and other["inode"] != made["inode"]
    said = text(s, "nbd", "create", f"--size={512}", f"--name={tag}-c")
    assert f"{tag}-c" in said and "nbd-client" in said, said

    listed = result(s, {"devices": [DEVICE]}, "nbd", "list")["devices"]
    mine = [d for d in listed if d["name"].startswith(tag)]
    assert mine[:2] == [made, other] and len(mine) == 3, mine
    table = text(s, "nbd", "list")
    assert re.search(rf"^{tag}-b +64\.00 MB +67,108,864 ", table, re.M), table
    assert result(s, DEVICE, "nbd", "info", "--name", f"{tag}-a") == made
    assert made["uuid"] in text(s, "nbd", "info", f"{tag}-a")

    grown = result(s, dict(DEVICE, old_size=NUMBER), "nbd", "resize", f"{tag}-a", "2M")
    assert (grown["old_size"], grown["size"], grown["uuid"]) == (3 << 19, 2 << 20, made["uuid"])
    shrunk = text(s, "nbd", "resize", "--name", f"{tag}-a", "--size", "1M", "--force")
    assert "shrunk" in shrunk, shrunk
    changed = result(s, DEVICE, "nbd", "set", f"{tag}-a", "--write-cache", "off")
    assert changed["write_cache"] is False and changed["size"] == 1 << 20
    gone = result(s, DEVICE, "nbd", "delete", f"{tag}-a", "--force")
    assert gone["uuid"] == made["uuid"]
    assert "Deleted" in text(s, "nbd", "delete", "--name", f"{tag}-c", "--force")
    listed = result(s, {"devices": [DEVICE]}, "nbd", "list")["devices"]
    assert [d["name"] for d in listed if d["name"].startswith(tag)] == [f"{tag}-b"]


def iscsi(s, tag):
    iqn = f"{IQN}.{tag}"
    made = result(s, TARGET, "iscsi", "create-target", "--iqn", iqn, "--lun", "0", "--size", "1G")
    assert made["iqn"] == iqn and [d["lun"] for d in made["luns"]] == [0], made
    assert made["luns"][0]["name"] == iqn and made["luns"][0]["size"] == 1 << 30
    bare = result(s, TARGET, "iscsi", "create-target", f"{iqn}.bare")
    assert bare["luns"] == []
    warned = result(s, dict(TARGET, warning=TEXT), "iscsi", "create-target",
                    f"iqn.2024.net.zerofs:{tag}", "3", "10M")
    assert [d["lun"] for d in warned["luns"]] == [3] and "month" in warned["warning"], warned

    added = result(s, LUN, "iscsi", "add-lun", iqn, "7", "512K", "--write-cache", "off")
    assert (added["lun"], added["size"], added["write_cache"]) == (7, 512 << 10, False)
    assert added["uuid"] != made["luns"][0]["uuid"]
    info = result(s, TARGET, "iscsi", "info", "--iqn", iqn)
    assert info["uuid"] == made["uuid"] and [d["lun"] for d in info["luns"]] == [0, 7]
    assert info == next(t for t in result(s, {"targets": [TARGET]}, "iscsi", "list")["targets"]
                        if t["iqn"] == iqn)
    listed = text(s, "iscsi", "list")
    assert re.search(r"^  LUN 7 +512\.00 KB ", listed, re.M) and iqn in listed, listed
    assert made["uuid"] in text(s, "iscsi", "info", iqn)

    grown = result(s, dict(LUN, old_size=NUMBER), "iscsi", "resize-lun", iqn, "0", "2G")
    assert (grown["old_size"], grown["size"]) == (1 << 30, 2 << 30)
    changed = result(s, LUN, "iscsi", "set-lun", iqn, "7", "--write-cache=on")
    assert changed["write_cache"] is True and changed["read_only"] is False
    changed = result(s, LUN, "iscsi", "set-lun", iqn, "7", "--read-only", "on")
    assert changed["write_cache"] is True and changed["read_only"] is True
    native = result(s, LUN, "iscsi", "add-lun", iqn, "8", "1M", "--sector", "4096",
                    "--read-only=on")
    assert (native["logical_block_size"], native["physical_block_size"]) == (4096, 4096), native
    assert native["read_only"] is True
    small = result(s, LUN, "iscsi", "add-lun", iqn, "9", "1536", "--physical", "512")
    assert (small["logical_block_size"], small["physical_block_size"]) == (512, 512), small
    listed = text(s, "iscsi", "info", iqn)
    for lun, words in ((0, "512e"), (7, "512e  read-only"), (8, "4Kn  read-only"), (9, "512n")):
        assert re.search(rf"^  LUN {lun} .* {words}$", listed, re.M), listed
    for words in (("add-lun", iqn, "10", "1536", "--sector", "4096"),
                  ("add-lun", iqn, "10", "1M", "--sector", "4096", "--physical", "512"),
                  ("add-lun", iqn, "10", "1M", "--sector", "1024"),
                  ("resize-lun", iqn, "8", "1537K"),
                  ("set-lun", iqn, "8", "--read-only", "maybe")):
        assert s.cli("iscsi", *words, check=False).returncode == 2, words
    gone = result(s, LUN, "iscsi", "remove-lun", "--iqn", iqn, "--lun", "7", "--force")
    assert gone["uuid"] == added["uuid"]
    gone = result(s, TARGET, "iscsi", "delete-target", f"iqn.2024.net.zerofs:{tag}", "--force")
    assert [d["lun"] for d in gone["luns"]] == [3]
    assert "Deleted" in text(s, "iscsi", "delete-target", f"{iqn}.bare", "--force")
    # The name is compared without regard to case, and shown in lower case.
    assert result(s, TARGET, "iscsi", "info", iqn.upper().replace("IQN", "iqn"))["iqn"] == iqn


def media(s, tag):
    words = f"{IQN}.{tag}", "1"
    made = result(s, LUN, "iscsi", "add-lun", *words, "1M", "--removable")
    assert made["removable"] and not made["ejected"], made
    out = result(s, LUN, "iscsi", "eject", *words)
    assert out == dict(made, ejected=True), out
    assert re.search(r"^ *Medium: +ejected$", text(s, "iscsi", "eject", *words), re.M)
    assert "removable, ejected" in text(s, "iscsi", "info", words[0])
    assert result(s, LUN, "iscsi", "insert", *words) == made
    assert re.search(r"^ *Medium: +in$", text(s, "iscsi", "insert", *words), re.M)


def sessions(s, tag):
    iqn = f"{IQN}.{tag}"
    assert result(s, SESSIONS, "iscsi", "sessions") == {"running": True, "sessions": []}
    i = Initiator(s.iscsi_port, iqn).login()
    one, = result(s, SESSIONS, "iscsi", "sessions")["sessions"]
    assert (one["target"], one["initiator"], one["isid"]) == (iqn, i.name, i.isid.hex()), one
    assert (one["cid"], one["tsih"], one["connections"]) == (1, i.tsih, 1), one
    assert one["auth"] == {"method": "None", "algorithm": None, "user": None, "mutual": False}
    assert i.name in text(s, "iscsi", "sessions")
    ended = result(s, {"iqn": TEXT, "disconnected": NUMBER}, "iscsi", "disconnect", iqn)
    assert ended == {"iqn": iqn, "disconnected": 1} and i.is_dropped(), ended
    i.close()


def general(s, running):
    schema = dict(STATUS, **SERVERS) if running else STATUS
    status = result(s, schema, "status")
    assert status["running"] is running and status["volume"]["fenced"] is False
    assert "Memory" in text(s, "status")
    assert result(s, {"stored_through": NUMBER}, "flush")["stored_through"] > 0
    assert "stored" in text(s, "flush")


def lists(s):
    return s.cli("nbd", "list", "--json").stdout, s.cli("iscsi", "list", "--json").stdout


with zt.Server() as s:
    nbd(s, "off")
    iscsi(s, "off")
    media(s, "off")
    assert result(s, SESSIONS, "iscsi", "sessions") == {"running": False, "sessions": []}
    general(s, False)
    before = lists(s)
    s.start()
    assert before == lists(s)
    nbd(s, "on")
    iscsi(s, "on")
    media(s, "on")
    sessions(s, "on")
    general(s, True)
    after = lists(s)
    s.kill()
    # What a command has reported as done survives the server's sudden death.
    assert after == lists(s)
    s.start().stop()
