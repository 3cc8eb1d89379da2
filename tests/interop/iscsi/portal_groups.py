#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# compression: any (addresses)
"""Portal groups: made, changed and deleted with and without a server, listened on while they are
there; logins and discovery tell the tag of the portal, a target is hidden where it is not reached,
and sessions that a change cuts off need --disconnect."""
import copy
import json

import zt
from initiator import Initiator, LoginRefused

A, B = "iqn.2024-01.net.zerofs:a", "iqn.2024-01.net.zerofs:b"


def group(s, *words, code=0):
    done = s.cli("iscsi", "portal-group", *words, "--json", check=False)
    assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
    return json.loads(done.stdout)


def found(port, what="All"):
    """What discovery tells there: the addresses of each target."""
    i = Initiator(port).login("Discovery")
    targets, addresses = {}, None
    for key, value in i.discover(what):
        if key == "TargetName":
            addresses = targets[value] = []
        else:
            addresses.append(value)
    i.logout()
    return targets


def tag_at(port, iqn):
    i = Initiator(port, iqn).login()
    i.logout()
    return i.agreed["TargetPortalGroupTag"]


def refused(port, iqn):
    try:
        Initiator(port, iqn).login()
    except LoginRefused as e:
        return e.status
    return 0


def listens(port):
    try:
        found(port)
    except ConnectionRefusedError:
        return False
    return True


def ready(i):
    """Each change of the groups is a unit attention for those who stay."""
    while i.run(b"\0" * 6).status:
        pass
    return i


def alone(s):
    """Without a server."""
    made = group(s, "create", "left", "--portals", f"127.0.0.1:{s.left},[::1]:{s.left}")
    assert made["groups"] == [{"name": "left", "tag": 2, "advertise": [],
                               "portals": [f"127.0.0.1:{s.left}", f"[::1]:{s.left}"]}], made
    group(s, "create", "left", "--portals", "192.0.2.1:1", code=5)
    group(s, "create", "other", "--portals", f"127.0.0.1:{s.left}", code=5)
    group(s, "create", "default", "--portals", "192.0.2.1:1", code=2)
    group(s, "create", "bad name", "--portals", "192.0.2.1:1", code=2)
    group(s, "create", "other", "--portals", "storage.example:3260", code=2)
    group(s, "create", "other", code=2)
    group(s, "create", "other", "--portals", "192.0.2.1:1", "--tag", "2", code=5)
    group(s, "create", "other", "--portals", "192.0.2.1:1", "--tag", "1", code=2)
    group(s, "delete", "other", code=4)
    group(s, "assign", B, "left")
    group(s, "assign", B, "leftover", code=4)
    group(s, "delete", "left", code=6)


def served(s):
    """With one: the volume knows the group, and it is listened on."""
    # A target of all groups, and one of a single group.
    assert found(s.iscsi_port) == {A: [f"127.0.0.1:{s.iscsi_port},1", f"127.0.0.1:{s.left},2",
                                       f"[::1]:{s.left},2"]}
    left = [f"127.0.0.1:{s.left},2", f"[::1]:{s.left},2"]
    assert found(s.left) == {A: left, B: left}
    assert found(s.iscsi_port, B) == {}
    assert tag_at(s.iscsi_port, A) == "1" and tag_at(s.left, A) == tag_at(s.left, B) == "2"
    assert refused(s.iscsi_port, B) == 0x203
    # Another: it stands for all addresses, and advertises.
    made = group(s, "create", "right", "--portals", f"0.0.0.0:{s.right}", "--tag", "77")
    assert made["groups"][0]["listening"] == [f"0.0.0.0:{s.right}"] and not made["disconnected"]
    assert found(s.right)[A] == [*left, f"127.0.0.1:{s.right},77"]
    group(s, "set", "right", "--advertise", "storage.example,[2001:db8::1]:3260")
    assert found(s.iscsi_port)[A][-2:] == ["storage.example,77", "[2001:db8::1]:3260,77"]
    assert tag_at(s.right, A) == "77"
    assert sorted(group(s, "list", B)["targets"][0]["portal_groups"]) == ["left"]


def cuts(s):
    """The same initiator port may come through two groups: two nexuses. What a change would end is
    asked about."""
    isid = b"\x80\x00\x00\x00\x00\x07"
    one = Initiator(s.left, A, isid=isid).ready()
    two = Initiator(s.right, A, isid=isid).ready()
    one.write(0, b"1" * 512)
    assert two.read(0, 1) == b"1" * 512
    group(s, "assign", A, "left,default", code=6)
    group(s, "delete", "right", code=6)
    group(s, "set", "right", "--portals", "192.0.2.1:3260", code=6)
    ready(two).write(0, b"2" * 512)
    done = group(s, "assign", A, "left,default", "--disconnect")
    assert done["disconnected"] == 1 and sorted(done["portal_groups"]) == ["default", "left"]
    assert two.is_dropped() and ready(one).read(0, 1) == b"2" * 512
    assert refused(s.right, A) == 0x203 and found(s.right) == {}
    # With its last group the portal goes; that of the configuration stays.
    group(s, "delete", "right")
    assert not listens(s.right)
    group(s, "create", "own", "--portals", f"127.0.0.1:{s.iscsi_port}", "--tag", "5")
    assert refused(s.iscsi_port, A) == 0x203
    group(s, "assign", A, "all")
    assert tag_at(s.iscsi_port, A) == "5" and ready(one).read(0, 1) == b"2" * 512
    group(s, "delete", "own")
    assert tag_at(s.iscsi_port, A) == "1"
    one.logout()


def mistakes(good, apply):
    """They are found before anything is done: by a dry run as well."""
    def spoil(change, code=2):
        bad = copy.deepcopy(good)
        change(bad, bad["targets"][0])
        return apply(bad, "--dry-run", code=code)

    left = {"group": "left", "state": "standby"}
    spoil(lambda d, t: d["portal_groups"].append(d["portal_groups"][0]))
    spoil(lambda d, t: d["portal_groups"].append({**d["portal_groups"][0], "name": "new"}), 5)
    spoil(lambda d, t: d["portal_groups"].append(
        {"name": "new", "portals": ["192.0.2.1:1"], "tag": 2}), 5)
    spoil(lambda d, t: t["portal_groups"].append("left"))
    spoil(lambda d, t: t.update(access_states=[left, {**left, "state": "optimized"}]))
    spoil(lambda d, t: t.update(access_states=[{**left, "state": "asleep"}]))
    spoil(lambda d, t: t.update(access_states=[{"group": "left", "preferred": True}]))
    assert "LUN 7, which is not in" in spoil(
        lambda d, t: t.update(access_states=[{**left, "lun": 7}]))
    for lun in ("0", -1, 16384, 1 << 32):
        assert "a number from 0 to 16383" in spoil(
            lambda d, t, lun=lun: t.update(access_states=[{**left, "lun": lun}]))
    spoil(lambda d, t: t.update(access_states=[left, {**left, "lun": None}]))


def described(s):
    """apply and export."""
    before = json.loads(s.cli("iscsi", "export").stdout)
    assert before["targets"][1]["portal_groups"] == ["left"]
    wanted = {"version": 1,
              "portal_groups": [{"name": "left", "portals": [f"127.0.0.1:{s.left}"]},
                                {"name": "right", "portals": [f"127.0.0.1:{s.right}"]}],
              "targets": [{**before["targets"][0], "portal_groups": ["left", "right"]},
                          {**before["targets"][1], "portal_groups": None}]}

    def apply(description, *options, code=0):
        with open(s.dir + "/d.json", "w", encoding="utf-8") as f:
            json.dump(description, f)
        done = s.cli("iscsi", "apply", s.dir + "/d.json", "--json", *options, check=False)
        assert done.returncode == code, (done.stdout, done.stderr)
        return json.loads(done.stdout)["changes"] if code == 0 else done.stdout + done.stderr

    steps = ["~ portal group left", "+ portal group right", f"~ {A}: portal groups",
             f"~ {B}: portal groups"]
    assert apply(wanted, "--dry-run") == steps and not listens(s.right)
    assert apply(wanted) == steps and apply(wanted) == []
    assert found(s.right) == {A: [f"127.0.0.1:{s.left},2", f"127.0.0.1:{s.right},3"],
                              B: [f"127.0.0.1:{s.left},2", f"127.0.0.1:{s.right},3"]}
    free = [{**t, "portal_groups": None} for t in wanted["targets"]]
    apply({**wanted, "portal_groups": [], "targets": free}, code=6)  # nothing goes without force
    unknown = {**wanted["targets"][0], "portal_groups": ["nowhere"]}
    apply({**wanted, "targets": [unknown, wanted["targets"][1]]}, "--dry-run", code=4)
    mistakes(wanted, apply)
    # A LUN that is null is as good as none.
    of_target = [{"group": "left", "lun": None, "state": "standby"}]
    wanted["targets"][1]["access_states"] = of_target
    assert apply(wanted) == [f"~ {B}: access states"] and apply(wanted) == []
    assert apply(before, "--force") == [
        "~ portal group left", f"~ {A}: portal groups", f"~ {B}: portal groups",
        f"~ {B}: access states", "- portal group right"]
    assert not listens(s.right)


def main():
    with zt.Server() as s:
        s.left, s.right = zt.free_port(), zt.free_port()
        for iqn in (A, B):
            s.cli("iscsi", "create-target", "--iqn", iqn, "--lun", "0", "--size", "8M")
        alone(s)
        s.start()
        served(s)
        cuts(s)
        described(s)
        # A portal that cannot be listened on is no reason not to serve.
        group(s, "create", "away", "--portals", "192.0.2.99:3260")
        assert "cannot listen on 192.0.2.99:3260" in s.log_text()
        s.kill()
        s.start()
        assert tag_at(s.left, B) == "2" and refused(s.iscsi_port, B) == 0x203
        # Without the target the group may go.
        s.cli("iscsi", "delete-target", B, "--force")
        group(s, "delete", "left")
        assert not listens(s.left)
        s.stop()


main()
