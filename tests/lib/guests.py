# SPDX-License-Identifier: Apache-2.0
"""Guests with a real kernel (tests/vm/run.sh), each an initiator of its own, that are told what to
do, while the target runs here:

    with guests.together("a", "b") as (a, b):
        a.discover(s.iscsi_port)            # what it finds; a record for each
        disk = a.login(IQN)
        a.run(f"sg_turs {disk}")            # AssertionError when it fails
        b.run("false", code=1)
        a.begin("load", "fio ...")          # in the background; a.ended("load") is its exit code

Two can be told at once, by threads (at_once)."""
import concurrent.futures
import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess

import zt

VM = os.path.join(os.environ["TOP"], "tests", "vm")
LIB = os.path.join(os.environ["TOP"], "tests", "lib")
HOST = "10.0.2.2"  # what the guest calls this machine's loopback
BOOT_S, RUN_S = 240, 240  # guards: everything takes long in an emulated machine
ATTENTION = 6  # what sg3-utils end with when there was news for the initiator
CONFLICT = 24  # RESERVATION CONFLICT


class Guest:
    def __init__(self, name, files=()):
        self.name, self.initiator = name, f"iqn.2024-01.test:{name}"
        self.listener = socket.create_server(("127.0.0.1", 0))
        port = self.listener.getsockname()[1]
        self.process = subprocess.Popen(
            [f"{VM}/run.sh", "-n", "-m", "512", "-t", "1200", "-e", f"PORT={port}",
             f"{VM}/remote", *files], stdin=subprocess.DEVNULL)
        self.connection = self.lines = None

    def boot(self):
        """Waits until it is there, with open-iscsi at work."""
        self.listener.settimeout(1)
        zt.wait_for(self.connected, BOOT_S)
        self.run("modprobe -a iscsi_tcp sd_mod sg && mkdir -p /run/lock/iscsi &&"
                 f" echo InitiatorName={self.initiator} >/etc/iscsi/initiatorname.iscsi &&"
                 " { iscsid -f >iscsid.log 2>&1 & }")
        self.wait_for("grep -q ISCSIADM_ABSTRACT /proc/net/unix")

    def connected(self):
        assert self.process.poll() is None, f"guest {self.name} ended: {self.process.returncode}"
        with contextlib.suppress(TimeoutError):
            self.connection = self.listener.accept()[0]
            self.connection.settimeout(RUN_S)
            self.lines = self.connection.makefile("r")
        return self.connection

    # -- commands ----------------------------------------------------------------------------------

    def tell(self, command):
        """Exit code and output, whatever they are."""
        self.connection.sendall(json.dumps(command).encode() + b"\n")
        return tuple(json.loads(self.lines.readline()))

    def run(self, command, code=0):
        got, output = self.tell(command)
        assert got == code, f"{self.name}: {command}: exit code {got}, not {code}: {output}"
        return output.strip()

    def scsi(self, command, code=0):
        """The same for one that unit attentions may go before: they are taken."""
        return self.run(f"until out=$({command} 2>&1); code=$?; [ $code -ne {ATTENTION} ];"
                        ' do :; done; echo "$out"; exit $code', code)

    def wait_for(self, command, limit_s=RUN_S):
        zt.wait_for(lambda: self.tell(command)[0] == 0, limit_s, 0.1)

    def begin(self, name, command):
        self.run(f"rm -f {name}.code; {{ bash -c {shlex.quote(command)} >{name}.log 2>&1;"
                 f" echo $? >{name}.part; mv {name}.part {name}.code; }} >/dev/null 2>&1 &")

    def ended(self, name):
        self.wait_for(f"[ -f {name}.code ]")
        return int(self.run(f"cat {name}.code"))

    def log(self, name):
        return self.run(f"cat {name}.log")

    # -- the kernel's initiator --------------------------------------------------------------------

    def iscsiadm(self, iqn, words, code=0):
        return self.run(f"iscsiadm --mode node --targetname {iqn} {words}", code)

    def discover(self, port):
        return self.run(f"iscsiadm --mode discovery --type sendtargets --portal {HOST}:{port}")

    def set_keys(self, iqn, keys):
        """Settings of the node's record."""
        words = " ".join(f"--name '{key}' --value '{value}'" for key, value in keys.items())
        self.iscsiadm(iqn, f"--op update {words}")

    def create_interface(self, name):
        """What iscsiadm -I NAME logs in by: another initiator in the same guest."""
        self.run(f"iscsiadm --mode iface --interface {name} --op new && iscsiadm --mode iface"
                 f" --interface {name} --op update --name iface.initiatorname"
                 f" --value {self.initiator}-{name}")

    def disk(self, interface="default"):
        """The disk of LUN 0 in the session by that interface, or nothing."""
        code, output = self.tell(
            "for s in /sys/class/iscsi_session/session*; do"
            f" [ $(cat $s/ifacename) = {interface} ] && ls -d $s/device/target*/*:0/block/*; done")
        return f"/dev/{os.path.basename(output.strip())}" if code == 0 else ""

    def login(self, iqn, interface="default"):
        self.iscsiadm(iqn, f"--interface {interface} --login")
        return zt.wait_for(lambda: self.disk(interface), RUN_S, 0.1)

    def logout(self, iqn):
        self.iscsiadm(iqn, "--logout")
        self.wait_for("! ls /sys/class/iscsi_session | grep -q .")

    # -- the end -----------------------------------------------------------------------------------

    def end(self):
        """It switches itself off, without a complaint."""
        self.connection.close()
        self.lines.close()
        code = self.process.wait(BOOT_S)
        assert code == 0, f"guest {self.name} ended with code {code}"

    def kill(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def at_once(*calls):
    """Runs them side by side: their results; the first failure is raised when all have ended."""
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


@contextlib.contextmanager
def together(*names, files=()):
    """Guests of these names, that run beside one another."""
    started = []
    try:
        for name in names:
            started.append(Guest(name, files))
        at_once(*(guest.boot for guest in started))
        yield started
        for guest in started:
            guest.end()
    finally:
        for guest in started:
            guest.kill()
