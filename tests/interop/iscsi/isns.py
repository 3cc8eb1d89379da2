#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# store: file
# limit: 300
"""Targets in an iSNS server (open-isns): what is registered there, that inquiries are answered by
TCP and UDP, what a control node hears of a new target, a server that loses its memory, discovery
domains that hide a target, and that nothing is left when this server stops."""
import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import threading

import zt
from initiator import Initiator, LoginRefused
from ports import free_port

IQN = "iqn.2024-01.net.zerofs:"
HOST = "iqn.2024-01.test:host"
LIMIT_S = 150  # the client may have to wait for its next attempt, and look by itself
EID, NODE, TYPE, SCN_BITS = 1, 32, 33, 35


class Isnsd:
    """Debian's server, as anybody may run it. It is known to crash over notifications: one that
    keeps its database is then started again."""

    def __init__(self, name, keeps=False):
        self.dir = os.path.join(zt.TMPDIR, name)
        os.makedirs(self.dir)
        self.port, self.keeps, self.ends = free_port(), keeps, False
        base = f"SourceName = iqn.2024-01.test:{name}\nSecurity = 0\n"
        self.write("isnsd.conf", base + f"""\
BindAddress = 127.0.0.1:{self.port}
PIDFile = {self.dir}/pid
ControlSocket = {self.dir}/control
DefaultDiscoveryDomain = {int(not keeps)}
SLPRegister = 0
RegistrationPeriod = 10m
ESIMinInterval = 1
ESIMaxInterval = 1m
""" + (f"Database = {self.dir}/db\n" if keeps else ""))
        self.write("isnsadm.conf", base + f"ServerAddress = 127.0.0.1:{self.port}\n")
        self.start()
        if keeps:
            self.keeper = threading.Thread(target=self.keep, daemon=True)
            self.keeper.start()

    def write(self, name, text):
        with open(os.path.join(self.dir, name), "w", encoding="utf-8") as f:
            f.write(text)

    def start(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.dir}/control")
        with open(f"{self.dir}/log", "ab") as log:
            command = ["/usr/sbin/isnsd", "-f", "-c", f"{self.dir}/isnsd.conf"]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log)

        def listens():
            assert self.process.poll() is None or self.keeps, open(f"{self.dir}/log").read()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return True
            return False

        zt.wait_for(listens)

    def keep(self):
        while not self.ends:
            if self.process.wait() in (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS):
                print("isnsd has crashed, and is started again")
                self.start()

    def kill(self):
        self.ends = True
        self.process.kill()
        self.process.wait()

    def admin(self, *words):
        """What isnsadm says; it is tried again, should the server have gone meanwhile."""
        def once():
            done = subprocess.run(["isnsadm", "-c", f"{self.dir}/isnsadm.conf", *words], text=True,
                                  capture_output=True, timeout=60, check=False)
            return done if done.returncode == 0 or "No such entry" in done.stderr else None

        return zt.wait_for(once).stdout

    def names(self, kind, what):
        return sorted(re.findall(rf'{what} = "?([^"\n]*)', self.admin("--list", kind)))

    def domain(self, *words):
        self.admin("--dd-register", *words)


def attr(tag, value=b""):
    if isinstance(value, str):
        value = value.encode() + b"\0" * (4 - len(value) % 4)
    if isinstance(value, int):
        value = struct.pack(">I", value)
    return struct.pack(">II", tag, len(value)) + value


class ControlNode:
    """Registers for all changes, and hears of them."""
    NAME = "iqn.2024-01.test:control"

    def __init__(self, isnsd):
        self.listener = socket.create_server(("127.0.0.1", 0))
        port = self.listener.getsockname()[1]
        self.server = socket.create_connection(("127.0.0.1", isnsd.port))
        self.call(1, attr(EID, "control"), attr(EID, "control"), attr(2, 2),
                  attr(16, bytes(10) + b"\xff\xff\x7f\0\0\x01"), attr(17, port), attr(23, port),
                  attr(NODE, self.NAME), attr(TYPE, 4))
        self.call(5, attr(NODE, self.NAME), attr(SCN_BITS, 0x20 | 0x10 | 0x08))

    @staticmethod
    def receive(s):
        head = s.recv(12, socket.MSG_WAITALL)
        assert len(head) == 12, head
        return head, s.recv(struct.unpack(">H", head[4:6])[0], socket.MSG_WAITALL)

    def call(self, function, key, *operating):
        payload = attr(NODE, self.NAME) + key + attr(0) + b"".join(operating)
        self.server.sendall(struct.pack(">6H", 1, function, len(payload), 0x8C00, function, 0)
                            + payload)
        _, answer = self.receive(self.server)
        assert answer[:4] == bytes(4), (function, answer)

    def hears_of(self, name):
        self.listener.settimeout(zt.LIMIT_S)
        self.heard, _ = self.listener.accept()  # stays open: isnsd does not like its end
        self.heard.settimeout(zt.LIMIT_S)
        heard = b""
        while name.encode() not in heard:
            head, payload = self.receive(self.heard)
            assert head[2:4] == b"\0\x08", head
            heard += payload
            answer = bytes(4) + attr(NODE, self.NAME)
            self.heard.sendall(struct.pack(">4H", 1, 0x8008, len(answer), 0x8C00) + head[8:10]
                               + bytes(2) + answer)


def status(s):
    return json.loads(s.cli("status", "--json").stdout)["isns"]


def has(s, **wanted):
    is_now = status(s)
    return all(is_now[key] == value for key, value in wanted.items())


def inquired(s, isnsd):
    """It has asked, again and again, and still knows us."""
    before = status(s)["inquiries"]
    zt.wait_for(lambda: status(s)["inquiries"] >= before + 4)
    assert isnsd.names("entities", "Entity identifier") == ["storage-1"]


def registers(s, isnsd, portals):
    s.start()
    assert has(s, state="idle")
    s.cli("iscsi", "create-target", IQN + "a", "--size", "1M")
    s.cli("iscsi", "create-target", IQN + "b")
    zt.wait_for(lambda: has(s, state="registered", targets=2, portals=len(portals)))
    assert "iSNS         registered, 2 targets" in s.cli("status").stdout
    assert isnsd.names("nodes", "iSCSI name") == [IQN + "a", IQN + "b"]
    assert isnsd.names("nodes", "iSCSI node type") == ["Target"] * 2
    ports = isnsd.names("portals", "Portal TCP/UDP port")
    assert ports == sorted(f"{p.rsplit(':', 1)[1]}/tcp" for p in portals), ports
    assert isnsd.names("portals", "ESI interval") == ["1"] * len(portals)
    assert isnsd.names("portal-groups", "Portal group tag") == ["1"] * 2 * len(portals)
    inquired(s, isnsd)


def follows(s, isnsd):
    control = isnsd.control = ControlNode(isnsd)
    s.cli("iscsi", "create-target", IQN + "c")
    control.hears_of(IQN + "c")
    s.cli("iscsi", "delete-target", IQN + "b", "--force")
    zt.wait_for(lambda: isnsd.names("nodes", "iSCSI name") == [IQN + "a", IQN + "c", control.NAME])


def is_answered(s, portal):
    """Of too many connections that say nothing the oldest goes: whoever has a question is heard."""
    at = (portal.rsplit(":", 1)[0], s.isns_port)
    idle = []
    for _ in range(200):
        idle.append(socket.create_connection(at))
        idle[-1].sendall(b"\0\1")  # not even a header
    # One after the other, as fast as they are let in.
    def answered():
        with contextlib.suppress(OSError), socket.create_connection(at) as one:
            one.settimeout(zt.LIMIT_S)
            payload = attr(EID, "storage-1")
            one.sendall(struct.pack(">6H", 1, 13, len(payload), 0x4C00, 9, 0) + payload)
            head, answer = ControlNode.receive(one)
            return head[2:4] == b"\x80\x0d" and answer[:4] == bytes(4)
        return False

    zt.wait_for(answered)
    for one in idle:
        one.close()


def groups(s, isnsd):
    """A portal group is registered with what it advertises, by name too; a target that is not
    reached through it has no tag there. Inquiries come to addresses that are ours."""
    def as_said():
        found = re.findall(r'group name = "([^"]*)"\n.*\n.*port = (\d+)/tcp\n.*group tag = (\d+)',
                           isnsd.admin("--list", "portal-groups"))
        tags = {(name, port): tag for name, port, tag in found}
        return [tags.get((IQN + target, port)) for target in "ac" for port in (main, "3299")] == [
            "1", "7", "1", None]

    main = str(s.iscsi_port)
    s.cli("iscsi", "portal-group", "create", "far", "--tag", "7", "--portals",
          f"127.0.0.2:{free_port()}", "--advertise", "192.0.2.7:3299,localhost:3298,192.0.2.8")
    s.cli("iscsi", "portal-group", "assign", IQN + "c", "default")
    zt.wait_for(as_said)
    ports = isnsd.names("portals", "Portal TCP/UDP port")
    assert "3298/tcp" in ports and "3260/tcp" in ports and "3205/tcp" not in ports
    heard = len(isnsd.names("portals", "ESI interval"))
    s.cli("iscsi", "portal-group", "create", "near", "--portals", f"127.0.0.3:{free_port()}")
    zt.wait_for(lambda: len(isnsd.names("portals", "ESI interval")) == heard + 1)
    socket.create_connection(("127.0.0.3", s.isns_port)).close()
    s.cli("iscsi", "portal-group", "delete", "near")

    def closed():
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.3", s.isns_port)).close()
            return False
        return True

    zt.wait_for(closed)
    s.cli("iscsi", "portal-group", "delete", "far")
    # What the host itself has for a loopback address is not where others find it.
    s.cli("iscsi", "portal-group", "create", "wide", "--portals", f"0.0.0.0:{free_port()}",
          "--advertise", "192.0.2.7:3297,localhost:3296")
    zt.wait_for(lambda: "localhost:3296 is " in s.log_text())
    zt.wait_for(lambda: "3297/tcp" in isnsd.names("portals", "Portal TCP/UDP port"))
    assert "3296/tcp" not in isnsd.names("portals", "Portal TCP/UDP port")
    s.cli("iscsi", "portal-group", "delete", "wide")
    zt.wait_for(lambda: "3299/tcp" not in isnsd.names("portals", "Portal TCP/UDP port"))


def forgotten(s, isnsd):
    """A server that has lost all is told all; meanwhile nobody misses it."""
    i = Initiator(s.iscsi_port, IQN + "a").ready()
    isnsd.kill()
    zt.wait_for(lambda: has(s, state="away"))
    assert i.run(b"\0" * 6).status == 0
    assert set(targets_of(s, HOST)) == {IQN + "a", IQN + "c"}
    isnsd.start()
    zt.wait_for(lambda: has(s, state="registered"), LIMIT_S)
    assert isnsd.names("nodes", "iSCSI name") == [IQN + "a", IQN + "c"]
    assert s.log_text().count("is not reached") in (1, 2)  # a line for each reason
    i.logout()


def leaves(s, isnsd):
    s.stop()
    assert isnsd.names("entities", "Entity identifier") == []
    assert isnsd.names("portals", "Portal TCP/UDP port") == []


def targets_of(s, name):
    done = subprocess.run(["iscsi-ls", "-i", name, f"iscsi://127.0.0.1:{s.iscsi_port}"], text=True,
                          capture_output=True, timeout=zt.LIMIT_S, check=True)
    return re.findall(r"Target:(\S+)", done.stdout)


def refused(s, iqn, name):
    try:
        Initiator(s.iscsi_port, iqn, name=name).login()
    except LoginRefused as e:
        return e.status == 0x202
    return False


def domains_hide(s, isnsd):
    """Each host has a domain with one target. A change is told, and comes to hold."""
    for n, target in enumerate("ac", 1):
        isnsd.admin("--register", f"entity=host{n}", f"initiator={HOST}{n}")
        isnsd.domain(f"dd-name=domain{n}", f"member-name={IQN}{target}", f"member-name={HOST}{n}")
    s.start()
    zt.wait_for(lambda: has(s, state="registered", restricted_targets=2), LIMIT_S)
    for n, target in enumerate("ac", 1):
        assert targets_of(s, f"{HOST}{n}") == [IQN + target]
    assert targets_of(s, HOST + "3") == []
    assert refused(s, IQN + "c", HOST + "1") and refused(s, IQN + "a", HOST + "3")
    # One that is a member, and does not register.
    isnsd.domain("dd-id=1", f"member-name={HOST}4")
    zt.wait_for(lambda: targets_of(s, HOST + "4") == [IQN + "a"], LIMIT_S)
    Initiator(s.iscsi_port, IQN + "a", name=HOST + "4").ready().logout()
    assert refused(s, IQN + "c", HOST + "4")
    i = Initiator(s.iscsi_port, IQN + "a", name=HOST + "1").ready()
    isnsd.domain("dd-id=2", f"member-name={HOST}1")
    zt.wait_for(lambda: set(targets_of(s, HOST + "1")) == {IQN + "a", IQN + "c"}, LIMIT_S)
    zt.wait_for(lambda: status(s)["notifications"] > 0)
    assert i.run(b"\0" * 6).status == 0
    # What it has said holds while it is away.
    isnsd.kill()
    assert targets_of(s, HOST + "2") == [IQN + "c"]
    i.logout()


def main():
    isnsd = Isnsd("plain")
    with zt.Server(extra=f"""\
[servers.iscsi.isns]
server = "localhost:{isnsd.port}"
entity = "storage-1"
esi_interval_secs = 1
""") as s:
        portals = [f"127.0.0.1:{s.iscsi_port}"]
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
            portals.append(f"[::1]:{free_port()}")
        s.isns_port = free_port()
        s.configure(f"[servers.iscsi]\naddresses = {json.dumps(portals)}\n"
                    f"[servers.iscsi.isns]\nport = {s.isns_port}\n")
        registers(s, isnsd, portals)
        follows(s, isnsd)
        groups(s, isnsd)
        is_answered(s, portals[0])
        forgotten(s, isnsd)
        leaves(s, isnsd)
        s.configure('[servers.iscsi.isns]\nesi_transport = "udp"\n')
        s.start()
        zt.wait_for(lambda: has(s, state="registered", targets=2))
        inquired(s, isnsd)
        s.stop()
        isnsd.kill()
        isnsd = Isnsd("domains", keeps=True)
        s.configure(f'[servers.iscsi.isns]\nserver = "localhost:{isnsd.port}"\n'
                    "esi_interval_secs = 0\ndiscovery_domains = true\n")
        domains_hide(s, isnsd)
        s.stop()


main()
