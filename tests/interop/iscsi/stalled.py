#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# store: s3
# limit: 120
"""While the store gives no answer, NOPs are answered at once, and task management acts on the
commands that wait for it: aborted reads and flushes end, the functions answer, and whom they
concern is told as TAS, TaskReporting and the protocol level say."""
import os
import struct
import threading
import time

import initiator
import rgw
import s3
import s3stub
import stores
import zt
from initiator import Initiator

IQN = "iqn.2024-01.net.zerofs:stalled"
NOP_LIMIT_S = 1
ABORT_TASK, ABORT_SET, CLEAR_ACA, CLEAR_SET, LU_RESET, WARM_RESET = range(1, 7)
REASSIGN, QUERY_TASK, QUERY_SET, NEXUS_RESET, QUERY_EVENT = range(8, 13)
COMPLETE, NO_TASK, NO_LUN, NO_REASSIGN, UNSUPPORTED, SUCCEEDED = 0, 1, 2, 4, 5, 7
BLOCKS = 256


class Peer(Initiator):
    """One whose answers come in any order: what is not waited for is kept."""

    def __init__(self, port, name, **keys):
        super().__init__(port, IQN, keys, name=f"iqn.2024-01.test:{name}")
        self.kept = []

    def take(self, fits):
        for pdu in self.kept:
            if fits(pdu):
                self.kept.remove(pdu)
                return pdu
        while True:
            pdu = self.receive()
            if fits(pdu):
                return pdu
            self.kept.append(pdu)

    def read_begin(self, lba):
        return self.begin(struct.pack(">BBQIBB", 0x88, 0, lba, 8, 0, 0), 4096)

    def function_begin(self, what, ref=initiator.NONE, ref_cmdsn=0, lun=0):
        itt = self.itt
        self.itt += 1
        self.send(initiator.TMF | initiator.IMMEDIATE, initiator.FINAL | what, lun=lun, itt=itt,
                  fields=((20, ref), (24, self.cmdsn), (28, self.exp_statsn), (32, ref_cmdsn)))
        return itt

    def function_end(self, itt):
        return self.take(lambda p: p.itt == itt and p.opcode == initiator.TMF_RESPONSE).bhs[2]

    def function(self, what, *words, **named):
        return self.function_end(self.function_begin(what, *words, **named))

    def status_of(self, itt):
        pdu = self.take(lambda p: p.itt == itt)
        return initiator.Status(pdu, pdu.data, 0)

    def has_heard_of(self, itt):
        """Whether an answer has come; a NOP makes sure that it would be here."""
        assert self.ping()
        return any(p.itt == itt for p in self.kept)

    def ping(self):
        begin = time.monotonic()
        itt = self.itt
        self.itt += 1
        self.send(initiator.NOP_OUT | initiator.IMMEDIATE, initiator.FINAL, b"ping", itt=itt,
                  fields=((20, initiator.NONE), (24, self.cmdsn)))
        assert self.take(lambda p: p.itt == itt).data == b"ping"
        return time.monotonic() - begin < 60

    def attention(self):
        itt = self.begin(b"\0" * 6)
        done = self.status_of(itt)
        return done.sense[12] << 8 | done.sense[13] if done.status == 2 else done.status

    def control(self, byte5):
        page = bytes([0, 0, 0, 0, 0x0A, 0x0A, 2, 0x10, 0, byte5, 0, 0, 0xFF, 0xFF, 0, 0])
        assert self.run(bytes([0x15, 0x10, 0, 0, len(page), 0]), out=page).status == 0


class Store(s3stub.Stub):
    """An S3 server whose reads, or what else is said, can be held back."""

    def __init__(self):
        super().__init__(bucket=rgw.BUCKET)
        self.keys = {s3.ACCESS_KEY: (s3.SECRET_KEY, None)}
        self.flows = threading.Event()
        self.flows.set()
        self.held = {"GET"}
        self.rule = self.hold

    def hold(self, request):
        if request.method in self.held:
            self.flows.wait()


def nops(peer, server):
    for _ in range(5):
        watch = zt.Stopwatch(server)
        peer.ping()
        assert watch.seconds() < NOP_LIMIT_S, watch.seconds()


def one_task(a):
    first, second = a.read_begin(0), a.read_begin(8)
    assert a.function(QUERY_TASK, first) == SUCCEEDED
    assert a.function(QUERY_SET) == SUCCEEDED
    assert a.function(ABORT_TASK, first) == COMPLETE
    assert a.function(QUERY_TASK, first) == COMPLETE
    assert a.function(ABORT_TASK, first, a.cmdsn + 1000) == NO_TASK
    assert not a.has_heard_of(first) and not a.has_heard_of(second)
    assert a.function(QUERY_TASK, second) == SUCCEEDED
    assert a.function(ABORT_SET) == COMPLETE
    assert a.function(QUERY_SET) == COMPLETE
    assert not a.has_heard_of(second) and a.attention() == 0
    assert a.function(ABORT_TASK, first, lun=9 << 48) == NO_LUN
    assert a.function(CLEAR_ACA) == UNSUPPORTED and a.function(REASSIGN) == NO_REASSIGN


def flushes(a, b):
    """b has agreed on FastAbort. Neither waits for what a flush waits for."""
    sync = bytes([0x35]) + bytes(9)
    durable = struct.pack(">BBQIBB", 0x8A, 8, 64, 8, 0, 0)
    assert a.write(0, bytes(4096)).status == 0
    alone = a.begin(sync)
    assert a.function(QUERY_TASK, alone) == SUCCEEDED and not a.has_heard_of(alone)
    assert a.function(ABORT_TASK, alone) == COMPLETE
    set_of = [a.begin(sync), a.begin(durable, out=b"d" * 4096), a.begin(sync)]
    assert a.function(ABORT_SET) == COMPLETE
    left = [b.begin(sync), b.begin(sync)]
    assert b.function(QUERY_SET) == SUCCEEDED
    assert b.function(LU_RESET) == COMPLETE
    assert not any(a.has_heard_of(itt) for itt in (alone, *set_of))
    assert not any(b.has_heard_of(itt) for itt in left)
    while a.attention() or b.attention():
        pass


def others(a, b, plain):
    """b has agreed on FastAbort, the plain one on nothing."""
    reads = {peer: peer.read_begin(16) for peer in (a, b, plain)}
    for peer in (a, b, plain):
        peer.ping()
    assert plain.function(QUERY_SET) == UNSUPPORTED
    assert a.function(CLEAR_SET) == COMPLETE
    told = b.take(lambda p: p.opcode == initiator.ASYNC)
    assert told.bhs[36] == 5 and told.bhs[8:16] == bytes(8)
    for peer, itt in reads.items():
        assert not peer.has_heard_of(itt)
    assert a.attention() == 0 and b.attention() == plain.attention() == 0x2F00
    assert not any(p.opcode == initiator.ASYNC for p in plain.kept + a.kept)


def with_tas(a, b, plain):
    a.control(0x40)
    assert b.attention() == plain.attention() == 0x2A01
    reads = {peer: peer.read_begin(24) for peer in (a, b, plain)}
    for peer in (a, b, plain):
        peer.ping()
    assert a.function(LU_RESET) == COMPLETE
    assert b.status_of(reads[b]).status == plain.status_of(reads[plain]).status == 0x40
    assert not a.has_heard_of(reads[a])
    assert a.attention() == b.attention() == plain.attention() == 0x2903


def nexus(a, b):
    reads = {peer: peer.read_begin(32) for peer in (a, b)}
    b.ping()
    assert a.function(QUERY_EVENT) == COMPLETE
    assert a.function(NEXUS_RESET) == COMPLETE
    assert a.function(QUERY_EVENT) == SUCCEEDED
    assert a.attention() == 0x2907 and not a.has_heard_of(reads[a])
    assert b.function(QUERY_TASK, reads[b]) == SUCCEEDED
    return reads[b]


def write_begin(peer):
    """A write whose data were asked for: its ITT and what sends them."""
    cdb = struct.pack(">BBQIBB", 0x8A, 0, 4096, 256, 0, 0)
    itt = peer.command(cdb, 256 * 512, initiator.FINAL | 0x20)
    r2t = peer.take(lambda p: p.opcode == initiator.R2T and p.itt == itt)
    return itt, lambda: peer.data_out(itt, r2t.word(20), r2t.word(40), b"x" * r2t.word(44))


def data_on_their_way(a, b, plain):
    """Data that were asked for before a reset are still taken (RFC 7143 4.2.3.3), also when they
    come late; with FastAbort the function does not wait for them."""
    for peer, sends_first in ((a, True), (plain, False), (b, False)):
        itt, send = write_begin(peer)
        read = peer.read_begin(40)
        reset = peer.function_begin(LU_RESET)
        if sends_first:
            send()
        assert peer.function_end(reset) == COMPLETE
        if not sends_first:
            send()
        assert not peer.has_heard_of(itt) and not peer.has_heard_of(read)
        for each in (a, b, plain):
            assert each.attention() == 0x2903 and each.attention() == 0


def main():
    pattern = os.urandom(BLOCKS * 512)
    with Store() as store:
        url = stores.url("s", kind="s3")
        with zt.Server("s", url, "[cache]\ndisk_size_gb = 0.0", endpoint=store.endpoint) as s:
            s.cli("iscsi", "create-target", "--iqn", IQN, "--lun", "0", "--size", "64M")
            s.start()
            i = Initiator(s.iscsi_port, IQN).ready()
            i.write(0, pattern)
            i.logout()
            s.stop()
            s.start()
            a = Peer(s.iscsi_port, "a", iSCSIProtocolLevel="2").ready()
            b = Peer(s.iscsi_port, "b", iSCSIProtocolLevel="2",
                     TaskReporting="FastAbort,RFC3720").ready()
            plain = Peer(s.iscsi_port, "plain").ready()
            assert a.agreed["iSCSIProtocolLevel"] == "2"
            assert b.agreed["TaskReporting"] == "FastAbort"
            store.flows.clear()
            hanging = a.read_begin(0)
            nops(a, s)
            nops(b, s)
            assert not a.has_heard_of(hanging)
            assert a.function(ABORT_TASK, hanging) == COMPLETE
            one_task(a)
            others(a, b, plain)
            with_tas(a, b, plain)
            data_on_their_way(a, b, plain)
            left = nexus(a, b)
            store.flows.set()
            assert b.status_of(left).status == 0
            a.write(0, pattern)  # the first change is recorded durably
            store.held = {"GET", "PUT"}
            store.flows.clear()
            flushes(a, b)
            store.flows.set()
            assert a.run(bytes([0x35]) + bytes(9)).status == 0
            a.write(0, pattern)
            assert a.read(0, BLOCKS) == pattern
            assert a.read(4096, 256) == bytes(256 * 512)
            for peer in (a, b, plain):
                peer.close()
            s.stop()


main()
