# SPDX-License-Identifier: Apache-2.0
"""The servers that are measured. Each is started when it is first needed, pinned, with a device of
256 MiB that was written once, and ended by its process id."""
import os
import shutil
import signal
import socket
import subprocess
import time

DEVICE_BYTES = 256 << 20
IQN = "iqn.2024-01.net.zerofs:bench"
LIMIT_S = 20
REST_S = 0.2
TICKS = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for_port(port, process):
    ends_at = time.monotonic() + LIMIT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > ends_at:
                raise RuntimeError(f"{process.args}: nobody listens on port {port}") from None
            time.sleep(0.02)


class Peer:
    """What all have in common. target() gives the words that tell the load client where to go."""
    ends_with = signal.SIGTERM
    protocols = ("nbd",)

    def __init__(self, servers, name, cpus):
        self.servers, self.name, self.cpus = servers, name, cpus
        self.folder = os.path.join(servers.folder, name.replace(" ", "-").replace(":", ""))
        self.process = None
        self.ports = {"nbd": free_port(), "iscsi": free_port()}
        os.makedirs(self.folder)

    def spawn(self, *words, pin=True):
        pinned = ["taskset", "-c", self.cpus] if pin else []
        log = open(os.path.join(self.folder, "log"), "ab")
        with log:
            self.process = subprocess.Popen([*pinned, *words], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)

    def image(self):
        path = os.path.join(self.folder, "image")
        with open(path, "wb") as f:
            f.truncate(DEVICE_BYTES)
        return path

    def target(self, protocol):
        assert protocol == "nbd"
        return ["nbd", "127.0.0.1", str(self.ports["nbd"]), "bench"]

    def sweep(self, protocol, *options):
        """Goes through the whole device once, in sequence."""
        subprocess.run(["taskset", "-c", self.cpus, self.servers.lg, *self.target(protocol),
                        "-s", str(DEVICE_BYTES), "-n", str(DEVICE_BYTES), "-b", str(1 << 20),
                        "-d", "4", "-q", "-t", "60", *options],
                       check=True, stdout=subprocess.DEVNULL, timeout=120)

    def scatter(self):
        """Writes about as much as the device has, by 4 KiB at random."""
        subprocess.run(["taskset", "-c", self.cpus, self.servers.lg, *self.target("nbd"), "-s",
                        str(DEVICE_BYTES), "-n", str(DEVICE_BYTES), "-d", "32", "-t", "60", "-w",
                        "100"], check=True, stdout=subprocess.DEVNULL, timeout=120)
        self.settle()

    def fill(self):
        for protocol in self.protocols:
            self.sweep(protocol, "-w", "100")
        self.rest()

    def settle(self):
        """Waits until nothing written is left to do."""

    def rest(self):
        """Waits until the server wants no CPU any more: what it does later would be at the cost
        of whoever is measured next."""
        self.settle()
        ends_at = time.monotonic() + LIMIT_S
        spent, since = self.cpu_seconds(), time.monotonic()
        while time.monotonic() - since < REST_S and time.monotonic() < ends_at:
            time.sleep(REST_S / 4)
            if self.cpu_seconds() != spent:
                spent, since = self.cpu_seconds(), time.monotonic()

    def renew(self):
        """As on the first day."""

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def end(self):
        self.process.send_signal(self.ends_with)
        try:
            self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Zerofs(Peer):
    options = ()
    url = "file://{folder}/store"
    encryption = 'mode = "none"'
    protocols = ("nbd", "iscsi")

    def start(self):
        os.makedirs(os.path.join(self.folder, "store"))
        self.config = os.path.join(self.folder, "zerofs.toml")
        self.configure()
        self.serve()
        self.cli("nbd", "create", "bench", str(DEVICE_BYTES))
        self.cli("iscsi", "create-target", IQN, "0", str(DEVICE_BYTES))

    def configure(self, more=""):
        with open(self.config, "w", encoding="utf-8") as f:
            f.write(f"""\
[storage]
url = "{self.url.format(folder=self.folder)}"
[cache]
dir = "{self.folder}/cache"
memory_size_gb = 2.0
[encryption]
{self.encryption}
[servers.nbd]
addresses = ["127.0.0.1:{self.ports["nbd"]}"]
[servers.iscsi]
addresses = ["127.0.0.1:{self.ports["iscsi"]}"]
{more}""")

    def serve(self):
        self.spawn(self.servers.zerofs, "run", "-c", self.config)
        wait_for_port(self.ports["nbd"], self.process)
        wait_for_port(self.ports["iscsi"], self.process)

    def cli(self, *words):
        return subprocess.run([self.servers.zerofs, *words, "-c", self.config], check=True,
                              text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              timeout=60).stdout

    def target(self, protocol):
        if protocol == "iscsi":
            return ["iscsi", "127.0.0.1", str(self.ports["iscsi"]), IQN, *self.options]
        return super().target(protocol)

    def settle(self):
        self.cli("flush")

    def renew(self):
        self.end()
        shutil.rmtree(self.folder)
        os.makedirs(self.folder)
        self.start()
        self.fill()


class ZerofsMemory(Zerofs):
    url = "memory:"


class ZerofsDigests(Zerofs):
    options = ("-g",)


class NbdkitMemory(Peer):
    def start(self):
        self.serve("memory", str(DEVICE_BYTES))

    def serve(self, *plugin):
        self.spawn("nbdkit", "-f", "-i", "127.0.0.1", "-p", str(self.ports["nbd"]), *plugin)
        wait_for_port(self.ports["nbd"], self.process)


class NbdkitFile(NbdkitMemory):
    def start(self):
        self.serve("file", self.image())


class QemuNbd(Peer):
    def start(self):
        self.spawn("qemu-nbd", "-t", "-e", "8", "-f", "raw", "-x", "bench", "-b", "127.0.0.1", "-p",
                   str(self.ports["nbd"]), self.image())
        wait_for_port(self.ports["nbd"], self.process)


class Null(Peer):
    def start(self):
        cores = str(len(self.cpus.split(",")))
        self.spawn(self.servers.null, f"127.0.0.1:{self.ports['nbd']}", str(DEVICE_BYTES), cores)
        wait_for_port(self.ports["nbd"], self.process)


class Tgt(Peer):
    """Keeps its control socket below /run, and so gets a /run of its own. It ignores SIGTERM."""
    ends_with = signal.SIGKILL
    protocols = ("iscsi",)

    def start(self):
        user = [] if os.getuid() == 0 else ["--map-root-user"]
        portal = f"portal=127.0.0.1:{self.ports['iscsi']}"
        self.spawn("unshare", "--mount", *user, "sh", "-c",
                   "mount -t tmpfs run /run && mkdir /run/tgtd && exec taskset -c \"$0\" "
                   "tgtd -f -t 1 -C 7 --iscsi \"$1\"", self.cpus, portal, pin=False)
        wait_for_port(self.ports["iscsi"], self.process)
        self.admin("--op", "new", "--mode", "target", "-T", IQN)
        self.admin("--op", "new", "--mode", "logicalunit", "--lun", "1", "-b", self.image())
        self.admin("--op", "bind", "--mode", "target", "-I", "ALL")

    def admin(self, *words):
        user = [] if os.getuid() == 0 else ["-U", "--preserve-credentials"]
        subprocess.run(["nsenter", "-t", str(self.process.pid), "-m", *user, "tgtadm", "-C", "7",
                        "--lld", "iscsi", "--tid", "1", *words], check=True, timeout=LIMIT_S)

    def target(self, protocol):
        return ["iscsi", "127.0.0.1", str(self.ports["iscsi"]), IQN, "-l", "1"]


KINDS = {"zerofs": Zerofs, "zerofs memory:": ZerofsMemory,
         "zerofs with digests": ZerofsDigests, "nbdkit memory": NbdkitMemory,
         "nbdkit file": NbdkitFile, "qemu-nbd": QemuNbd, "tgt -t 1": Tgt, "null": Null}
TWO_CPUS = ", two CPUs"


class Servers:
    def __init__(self, build, folder, cpu, two_cpus):
        self.folder, self.cpu, self.two_cpus = folder, cpu, two_cpus
        self.zerofs = os.path.join(build, "zerofs")
        self.lg = os.path.join(build, "bench", "lg")
        self.null = os.path.join(build, "bench", "nullsrv")
        self.running = {}

    def get(self, name):
        if name not in self.running:
            cpus = self.two_cpus if name.endswith(TWO_CPUS) else self.cpu
            peer = KINDS[name.removesuffix(TWO_CPUS)](self, name, cpus)
            # Known before it runs: a start that fails leaves nothing behind.
            self.running[name] = peer
            peer.start()
            peer.fill()
        return self.running[name]

    def end(self):
        for peer in self.running.values():
            if peer.process:
                peer.end()
