#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# long
# heavy
# store: s3
# limit: 900
"""Two guests, each with Debian's kernel and an initiator of its own, at one target, which runs
beside them: every way to move data, a disk that both have, reservations and fencing of one by the
other, and a target that dies by kill -9 under them. Each part is a result of its own;
PARTS="NAME..." runs some."""
import contextlib
import itertools
import os
import socket
import time
import traceback

import guests
import zt
from guests import CONFLICT, at_once
from initiator import Initiator

IQN = "iqn.2024-01.net.zerofs:pair"
ROUNDS = 20 if zt.SOAK else 1
START_S = 5  # from kill -9 until the target is there again

# What each key becomes: the target has limits of its own.
BURSTS = (("512 512", "512 512"), ("4096 8192", "4096 8192"), ("262144 16776192", "65536 1048576"))
YES = {"Yes": "1", "No": "0", "CRC32C": "1", "None": "0"}


# -- every way to move data -----------------------------------------------------------------------

def set_way(guest, header, data, immediate, r2t, burst):
    first, most = burst[0].split()
    guest.set_keys(IQN, {
        "node.conn[0].iscsi.HeaderDigest": header, "node.conn[0].iscsi.DataDigest": data,
        "node.session.iscsi.ImmediateData": immediate, "node.session.iscsi.InitialR2T": r2t,
        "node.session.iscsi.FirstBurstLength": first, "node.session.iscsi.MaxBurstLength": most})


def go_way(guest, number, way):
    """A session that has agreed on these, and verified I/O in pieces of many sizes by it."""
    header, data, immediate, r2t, burst = way
    set_way(guest, *way)
    disk = guest.login(IQN)
    told = guest.run("cd /sys/class; cat iscsi_connection/*/{header,data}_digest"
                     " iscsi_session/*/{immediate_data,initial_r2t,first_burst_len,max_burst_len}")
    want = [*(YES[key] for key in (header, data, immediate, r2t)), *burst[1].split()]
    assert told.split() == want, (way, told, want)
    # Half of the disk is this guest's.
    half = 0 if guest.name == "a" else 8
    guest.run(f"fio --name=way{number} --filename={disk} --direct=1 --ioengine=libaio --iodepth=8"
              f" --rw=randwrite --bsrange=512-1m --size={16 if zt.SOAK else 1}m --offset={half}m"
              " --verify=crc32c --verify_fatal=1 --eta=never")
    guest.logout(IQN)


def transfers(s, a, b):
    """Digests x ImmediateData x InitialR2T x bursts, half of them by each guest."""
    ways = [(header, data, *rest) for (header, data), *rest in itertools.product(
        (("None", "None"), ("CRC32C", "CRC32C")), ("Yes", "No"), ("No", "Yes"), BURSTS)]
    ways += [("CRC32C", "None", "Yes", "No", BURSTS[1]), ("None", "CRC32C", "No", "Yes", BURSTS[1])]

    def go(guest, mine):
        for number, way in mine:
            go_way(guest, number, way)

    numbered = list(enumerate(ways))
    at_once(lambda: go(a, numbered[::2]), lambda: go(b, numbered[1::2]))
    for guest in (a, b):
        set_way(guest, "None", "None", "Yes", "No", BURSTS[2])


# -- one disk --------------------------------------------------------------------------------------

COUNT = """
i=0; met=0
until [ -e stop ]; do
    dd if=DISK of=pair bs=512 count=1 iflag=direct status=none || exit 1
    read -r number <pair
    printf '%-511s\\n' $((number + 1)) >>pair
    sg_compare_and_write --quiet --in=pair --lba=0 --num=1 --xferlen=1024 DISK; code=$?
    case $code in
    0) i=$((i + 1)) ;;
    14) met=$((met + 1)) ;; # MISCOMPARE: the other one was there
    *) exit 1 ;;
    esac
    echo $i $met >counted.part; mv counted.part counted
done
"""


def counted(guest):
    steps, met = guest.run("cat counted 2>/dev/null || echo 0 0").split()
    return int(steps), int(met)


def shared(s, a, b):
    """What one writes the other reads; both count by COMPARE AND WRITE, and no step is lost."""
    disks = at_once(lambda: a.login(IQN), lambda: b.login(IQN))
    for (one, at), (other, there) in itertools.permutations(zip((a, b), disks)):
        wrote = one.run(f"head -c 1M /dev/urandom >piece && sha256sum <piece"
                        f" && dd if=piece of={at} bs=1M oflag=direct status=none")
        read = other.run(f"dd if={there} bs=1M count=1 iflag=direct status=none | sha256sum")
        assert read == wrote, (read, wrote)
    a.run("printf '%-511s\\n' 0 |"
          f" dd of={disks[0]} bs=512 oflag=direct iflag=fullblock status=none")
    for guest, disk in zip((a, b), disks):
        guest.begin("count", COUNT.replace("DISK", disk))

    def enough():
        steps, met = zip(counted(a), counted(b))
        return min(steps) >= 5 and sum(met) >= (100 if zt.SOAK else 6)

    zt.wait_for(enough, guests.RUN_S, 0.2)
    for guest in (a, b):
        guest.run("touch stop")
    assert [guest.ended("count") for guest in (a, b)] == [0, 0], (a.log("count"), b.log("count"))
    (one, met), (two, too) = counted(a), counted(b)
    got = int(a.run(f"dd if={disks[0]} bs=511 count=1 iflag=fullblock status=none"))
    print(f"    counted to {got}: {one} and {two}, met {met} and {too} times")
    assert got == one + two, (got, one, two)
    for guest in (a, b):
        guest.run("rm stop counted")
        guest.logout(IQN)


# -- reservations ----------------------------------------------------------------------------------

def persist(guest, disk, words, code=0):
    return guest.scsi(f"sg_persist --no-inquiry {words} {disk}", code)


def status(guest, disk):
    """Registrations and reservation; the generation begins anew with each start."""
    return persist(guest, disk, "--in --read-full-status").partition("\n")[2]


# Three commands, and what keeps each of them out: writing, reading, and what is neither.
READ = "sg_raw --request=512 {} 28 00 00 00 00 00 00 00 01 00"
WRITE = "sg_raw --send=512 --infile=/dev/zero {} 2a 00 00 00 60 00 00 00 01 00"
CONTROL = "sg_raw --request=64 {} 1a 00 3f 00 40 00"
EXCLUSIVE_ACCESS = (3, 6, 8)
OF_ALL_REGISTRANTS = (5, 6, 7, 8)


def tries(guest, by_disk):
    """By disk: commands, each with the code that it has to end with."""
    for disk, wanted in by_disk.items():
        for command, code in wanted.items():
            guest.scsi(command.format(disk), code)


def matrix(s, a, b):
    """Six types, three commands; the holder and another registrant in one guest, and the other
    guest that is neither. Then kill -9, over which registrations and reservation stay."""
    a.create_interface("second")
    a.run(f"iscsiadm --mode discovery --type sendtargets --portal {guests.HOST}:{s.iscsi_port}"
          " --interface default --interface second")
    holder, other = at_once(lambda: a.login(IQN), lambda: b.login(IQN))
    registrant = a.login(IQN, "second")
    persist(a, holder, "--out --register --param-aptpl --param-sark=0xa1")
    persist(a, registrant, "--out --register --param-aptpl --param-sark=0xb2")
    for kind in (1, 3, 5, 6, 7, 8):
        persist(a, holder, f"--out --reserve --param-rk=0xa1 --prout-type={kind}")
        kept_out = {command: CONFLICT if command == WRITE or kind in EXCLUSIVE_ACCESS else 0
                    for command in (READ, WRITE, CONTROL)}
        let_in = dict.fromkeys(kept_out, 0)
        registered = let_in if kind in OF_ALL_REGISTRANTS else kept_out
        at_once(lambda: tries(a, {holder: let_in, registrant: registered}),
                lambda: tries(b, {other: kept_out}))
        shown = persist(b, other, "--in --read-reservation")
        assert f"Key=0x{'a1' if kind < 7 else '0'}\n" in shown, shown
        persist(a, holder, f"--out --release --param-rk=0xa1 --prout-type={kind}")
    persist(a, holder, "--out --reserve --param-rk=0xa1 --prout-type=5")
    before = status(b, other)
    s.kill()
    s.start()
    for guest, disk in ((a, holder), (a, registrant), (b, other)):
        guest.wait_for(f"sg_turs {disk}")
    assert status(b, other) == before, (before, status(b, other))
    b.scsi(WRITE.format(other), CONFLICT)
    a.scsi(WRITE.format(registrant))
    # The other guest becomes one, and takes it.
    persist(b, other, "--out --register --param-aptpl --param-sark=0xc3")
    persist(b, other, "--out --preempt-abort --param-rk=0xc3 --param-sark=0xa1 --prout-type=5")
    a.scsi(WRITE.format(holder), CONFLICT)
    b.scsi(WRITE.format(other))
    persist(b, other, "--out --clear --param-rk=0xc3")
    a.scsi(WRITE.format(holder))
    for guest in (a, b):
        guest.logout(IQN)
    a.run("rm -r /etc/iscsi/ifaces/second /etc/iscsi/nodes")
    a.discover(s.iscsi_port)


def fencing(s, a, b):
    """fence_scsi, as two nodes of a cluster have it: the first puts the second one out."""
    disks = at_once(lambda: a.login(IQN), lambda: b.login(IQN))

    def fence(guest, action, key, code=0):
        disk = disks[(a, b).index(guest)]
        guest.run(f"fence_scsi --devices={disk} --action={action} --key={key}", code)

    writing = "dd if=/dev/zero of={} bs=64k seek=1 oflag=direct count={}"
    at_once(lambda: fence(a, "on", "a1"), lambda: fence(b, "on", "b2"))
    for guest, disk in zip((a, b), disks):
        guest.run(writing.format(disk, 1))
    fence(b, "status", "b2")
    b.begin("writing", "while {}; do :; done; exit 5".format(writing.format(disks[1], 16)))
    fence(a, "off", "b2")
    assert b.ended("writing") == 5
    # EBADE is what the kernel calls a reservation conflict.
    assert "Invalid exchange" in b.log("writing"), b.log("writing")
    b.scsi(WRITE.format(disks[1]), CONFLICT)
    b.run("dd if={} bs=64k count=1 iflag=direct of=/dev/null".format(disks[1]))
    a.run(writing.format(disks[0], 1))
    fence(b, "status", "b2", code=2)
    fence(b, "on", "b2")  # as a node that was started anew
    b.run(writing.format(disks[1], 1))
    a.run(writing.format(disks[0], 1))
    persist(a, disks[0], "--out --clear --param-rk=0xa1")
    for guest in (a, b):
        guest.logout(IQN)


# -- kill -9 ---------------------------------------------------------------------------------------

class Load:
    """disk_load.py in a guest."""

    def __init__(self, guest, disk):
        self.guest = guest
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(guests.RUN_S)
            guest.begin("load", f"exec 3<>/dev/tcp/{guests.HOST}/{listener.getsockname()[1]};"
                        f" exec python3 disk_load.py {disk} <&3 >&3")
            self.connection = listener.accept()[0]
        self.connection.settimeout(guests.RUN_S)
        self.lines = self.connection.makefile("r")

    def ask(self, word):
        self.connection.sendall(word.encode() + b"\n")
        got = self.lines.readline().strip()
        assert got, f"the load ended at '{word}': {self.guest.log('load')}"
        print(f"    {word}: {got}", flush=True)
        return got

    def end(self):
        self.connection.close()
        self.lines.close()
        assert self.guest.ended("load") == 0, self.guest.log("load")


def restart(s):
    """Kill -9, and until a login is answered: how long that took."""
    began = time.monotonic()
    s.kill()
    s.start()
    Initiator(s.iscsi_port, IQN).login().logout()
    return time.monotonic() - began


def kill_round(s, a, b, load, held, *before):
    """The load is told these, and the target dies; what check says."""
    a_disk, b_disk = held["disks"]
    for word in (*before, "doubt"):
        load.ask(word)
    took = restart(s)
    print(f"    there again after {took:.2f} s", flush=True)
    at_once(lambda: a.wait_for(f"sg_turs {a_disk}"), lambda: b.wait_for(f"sg_turs {b_disk}"))
    assert status(b, b_disk) == held["status"], (status(b, b_disk), held)
    b.scsi(WRITE.format(b_disk), CONFLICT)
    return took, load.ask("check")


def killed(s, a, b):
    """Three ways to die: under load; when all was flushed, of which nobody must hear; and with
    writes that nobody has flushed, of whose loss the writer is told."""
    for guest in (a, b):
        # How long the kernel waits for a target, and what iscsid leaves between its attempts.
        guest.set_keys(IQN, {"node.session.timeo.replacement_timeout": 600,
                             "node.conn[0].timeo.login_timeout": 5})
    disks = at_once(lambda: a.login(IQN), lambda: b.login(IQN))
    a.run(f"blkdiscard {disks[0]} && sg_sync {disks[0]}")  # a history begins with zeros
    persist(a, disks[0], "--out --register --param-aptpl --param-sark=0xa1")
    persist(a, disks[0], "--out --reserve --param-rk=0xa1 --prout-type=5")
    held = {"disks": disks, "status": status(b, disks[1])}
    b.scsi(WRITE.format(disks[1]), CONFLICT)
    load, times = Load(a, disks[0]), []
    for _ in range(ROUNDS):
        took, said = kill_round(s, a, b, load, held, "load")
        times.append(took)
        took, said = kill_round(s, a, b, load, held, "load", "pause")
        times.append(took)
        assert said.startswith("untold") and said.endswith("nothing lost"), said
        took, said = kill_round(s, a, b, load, held, "hoard")
        times.append(took)
        assert said.startswith("told") and said.endswith("something lost"), said
    load.end()
    # A busy machine may be late, though not each time.
    assert min(times) < START_S, times
    persist(a, disks[0], "--out --clear --param-rk=0xa1")
    for guest in (a, b):
        guest.logout(IQN)


# -- all of them -----------------------------------------------------------------------------------

PARTS = (transfers, shared, matrix, fencing, killed)


def run_parts(s, a, b):
    """A part that fails leaves the guests as they are, so it is the last one."""
    chosen = os.environ.get("PARTS", "").split()
    for part in PARTS:
        if chosen and part.__name__ not in chosen:
            continue
        began, verdict = time.monotonic(), "pass"
        print(f"-- {part.__name__}", flush=True)
        try:
            part(s, a, b)
        except Exception:
            traceback.print_exc()
            print(a.tell("dmesg | tail -n 30")[1], b.tell("dmesg | tail -n 30")[1])
            verdict = "FAIL"
        report(verdict, part.__name__, time.monotonic() - began)
        if verdict == "FAIL":
            raise SystemExit(1)


def report(verdict, name, seconds):
    line = f"{verdict} {name} {seconds:.1f}\n"
    print(line, end="", flush=True)
    with contextlib.suppress(KeyError), open(os.environ["TEST_PARTS"], "a", encoding="utf-8") as f:
        f.write(line)


def main():
    with zt.Server() as s:
        s.cli("iscsi", "create-target", "--iqn", IQN, "--lun", "0", "--size", "16M")
        s.configure(f'[servers.iscsi]\nadvertise = ["{guests.HOST}:{s.iscsi_port}"]\n')
        s.start()
        lib = [os.path.join(guests.LIB, name) for name in ("history.py", "disk_load.py")]
        with guests.together("a", "b", files=lib) as (a, b):
            for guest in (a, b):
                found = guest.discover(s.iscsi_port)
                assert found == f"{guests.HOST}:{s.iscsi_port},1 {IQN}", found
            run_parts(s, a, b)
        s.stop()


main()
