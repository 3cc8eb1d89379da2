#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# compression: any (what does not come as far as the store)
"""Sessions of several connections, and ErrorRecoveryLevel 2: order over connections, logout of one,
replacement, reassignment of reads and writes in every state, and what is refused."""
import json
import random
import signal
import struct

import initiator
import zt
from initiator import COMMAND, DATA_IN, FINAL, NONE, R2T, RESPONSE, LoginRefused
from links import Link, Session, settle

IQN = "iqn.2024-01.net.zerofs:mcs"
KEYS = {"MaxConnections": "8", "InitialR2T": "Yes", "MaxRecvDataSegmentLength": "8192",
        "MaxBurstLength": "16384", "MaxOutstandingR2T": "4"}
LEVEL2 = {**KEYS, "ErrorRecoveryLevel": "2", "DefaultTime2Wait": "2", "DefaultTime2Retain": "20"}
COMPLETE, NO_TASK, ALLEGIANT, NO_REASSIGN = 0, 1, 3, 4
CLEARED = bytes.fromhex("477f")


def read16(lba, blocks):
    return struct.pack(">BBQIBB", 0x88, 0, lba, blocks, 0, 0)


def write16(lba, blocks):
    return struct.pack(">BBQIBB", 0x8A, 0, lba, blocks, 0, 0)


def refused(login, status):
    try:
        login()
    except LoginRefused as e:
        assert e.status == status, hex(e.status)
        return
    raise AssertionError("the login should have been refused")


def asc(status):
    return status.sense[12:14]


def joining(s):
    session = Session(s.iscsi_port, IQN, KEYS)
    links = [session.ready()]
    assert session.agreed["MaxConnections"] == "8"
    # What the leading connection has agreed on stays, and an offer that means something else is
    # refused.
    links += [session.link(keys=KEYS | {"MaxBurstLength": "512", "MaxConnections": "9"})]
    answers = links[-1].answered
    assert (answers["MaxBurstLength"], answers["MaxConnections"]) == ("Reject", "8"), answers
    links += [session.link() for _ in range(6)]
    listed = json.loads(s.cli("iscsi", "sessions", "--json").stdout)["sessions"]
    assert sorted(one["cid"] for one in listed) == sorted(link.cid for link in links), listed
    assert all(one["connections"] == 8 and one["tsih"] == session.tsih for one in listed), listed
    refused(session.link, 0x0206)
    good = session.tsih
    session.tsih = good ^ 0x5555
    refused(lambda: session.link(cid=9), 0x020A)
    session.tsih = good
    alone = Session(s.iscsi_port, IQN, {"MaxConnections": "1"})
    only = alone.ready()
    refused(alone.link, 0x0206)
    only.logout()
    return session, links


def order(session, links, rng):
    """Commands that come in any order over eight connections have their turn by CmdSN."""
    for _ in range(6):
        data = [rng.randbytes(512) for _ in range(8)]
        pairs = [links[0].reserve() for _ in range(8)]
        shuffled = list(range(8))
        rng.shuffle(shuffled)
        for n in shuffled:  # ORDERED, all to one block: the last one stays
            itt, cmdsn = pairs[n]
            links[n].command_as(itt, cmdsn, write16(77, 1), 512, FINAL | 0x20 | 3, data[n])
        for n in range(8):
            assert links[n].finish(pairs[n][0]).status == 0
        assert links[rng.randrange(8)].read(77, 1) == data[7]
    assert session.max_cmdsn > session.cmdsn


def one_goes(links, rng):
    """Logout of another connection, by its CID: its tasks are over, and the unit says so once."""
    data = rng.randbytes(8192)
    links[1].write(500, data)
    itt = links[3].command(write16(500, 16), 8192, FINAL | 0x20)
    assert links[3].receive().opcode == R2T
    assert links[0].log_out_of(1, 99) == 1  # no such CID
    assert links[0].recover(links[3].cid) == 2  # not at this level
    assert links[0].tmf(8, itt) and links[0].answer().bhs[2] == NO_REASSIGN
    assert links[0].log_out_of(1, links[3].cid) == 0
    assert links[3].is_dropped()
    cleared = links[5].run(b"\0" * 6)
    assert cleared.status == 2 and asc(cleared) == CLEARED, cleared.sense.hex()
    assert links[6].run(b"\0" * 6).status == 0
    assert links[6].read(500, 16) == data
    links[3] = links[0].session.link()


def one_is_cut(links, rng):
    """Without recovery its tasks end with it; the CmdSN that got lost comes on another one."""
    itt, cmdsn = links[0].reserve()
    data = rng.randbytes(512)
    links[4].sock.sendall(links[4].pack(COMMAND, FINAL | 0x21, data, ((20, 512), (24, cmdsn)),
                                        itt=itt)[:60])
    later = links[0].begin(read16(600, 1), 512)
    links[4].kill()
    links[0].nop()
    links[2].command_as(itt, cmdsn, write16(600, 1), 512, FINAL | 0x20, data)
    done = links[2].finish(itt)
    assert done.status == 0
    assert links[0].finish(later).data == data
    links[4] = links[0].session.link(cid=links[4].cid)


def replaced(links, rng):
    """A login with a CID that is in use takes its place."""
    itt = links[2].command(write16(700, 16), 8192, FINAL | 0x20)
    assert links[2].receive().opcode == R2T
    fresh = links[0].session.link(cid=links[2].cid)
    assert links[2].is_dropped()
    cleared = fresh.run(b"\0" * 6)
    assert cleared.status == 2 and asc(cleared) == CLEARED
    data = rng.randbytes(4096)
    fresh.write(700, data)
    assert links[7].read(700, 8) == data
    assert fresh.tmf(8, itt) and fresh.answer().bhs[2] == NO_REASSIGN
    links[2] = fresh


def fenced(links):
    """Of a function over the task set the response waits until the others have heard of theirs."""
    for link in links:
        link.acknowledge()
    links[1].acks = False
    links[1].first_statsn = links[1].exp_statsn
    assert links[1].run(b"\0" * 6).status == 0
    itt = links[0].tmf(2)
    while links[1].take_pdu() is not None:  # until it is asked
        pass
    assert links[0].nop(b"not yet").data == b"not yet"
    links[1].acks = True
    links[1].acknowledge()
    assert links[0].response_to(itt, initiator.TMF_RESPONSE) == 0


def logout_waits(links):
    """A logout that has its turn by what comes on another connection is answered."""
    (itt, cmdsn), (own, last) = links[0].reserve(), links[0].reserve()
    links[6].send(initiator.LOGOUT, FINAL | 1, b"", ((20, links[6].cid << 16), (24, last)), itt=own)
    links[6].nop()  # so that it has come
    links[0].command_as(itt, cmdsn, bytes(6))
    assert links[0].finish(itt).status == 0
    assert links[6].response_to(own, initiator.LOGOUT_RESPONSE) == 0
    links[6] = links[0].session.link()


def logout_twice(links):
    """Another connection is logged out once."""
    ask = ((20, links[5].cid << 16), (24, links[0].cmdsn))
    both = [
        links[0].pack(initiator.LOGOUT | 0x40, FINAL | 1, b"", ask, itt=itt) for itt in (91, 92)]
    links[0].sock.sendall(b"".join(both))
    done = {pdu.itt: pdu.bhs[2] for pdu in (links[0].answer(), links[0].answer())}
    assert done[91] == 0 and done[92] in (1, 3), done
    links[5] = links[0].session.link()


def all_leave(links):
    links[0].send(initiator.LOGOUT | 0x40, FINAL, b"", ((24, links[0].cmdsn),))
    assert links[0].answer().opcode == initiator.LOGOUT_RESPONSE
    assert all(link.is_dropped() for link in links[1:])


def gather_again(a, b, rng):
    """A write that had a part of its data."""
    data = rng.randbytes(40960)
    itt = a.command(write16(1000, 80), 40960, FINAL | 0x20)
    r2ts = [a.receive() for _ in range(3)]
    a.data_out(itt, r2ts[0].word(20), 0, data[:16384])
    a.send(initiator.DATA_OUT, 0, data[16384:20480],
           ((20, r2ts[1].word(20)), (36, 0), (40, 16384)), itt=itt)
    a.nop()  # so that it has all come
    assert b.reassign(itt) == ALLEGIANT
    a.kill()
    assert b.reassign(itt) == ALLEGIANT  # before the logout
    assert b.recover(a.cid) == 0
    assert b.reassign(itt + 5000) == NO_TASK
    assert b.reassign(itt, 3) == COMPLETE
    again = b.receive()
    assert again.opcode == R2T and again.itt == itt
    assert (again.word(36), again.word(40), again.word(44)) == (3, 20480, 16384)
    rest = b.receive()
    assert b.reassign(itt) == ALLEGIANT
    b.data_out(itt, again.word(20), 20480, data[20480:36864])
    assert (rest.word(36), rest.word(40), rest.word(44)) == (4, 36864, 4096)
    b.data_out(itt, rest.word(20), 36864, data[36864:])
    done = b.receive()
    assert done.opcode == RESPONSE and done.itt == itt and done.bhs[3] == 0
    assert done.word(36) == 5  # ExpDataSN: R2Ts
    assert b.read(1000, 80) == data
    assert b.reassign(itt) in (NO_TASK, ALLEGIANT)


def read_again(a, b, data, seen):
    """A read that has been answered; of its PDUs the initiator has seen so many."""
    a.acks, a.first_statsn = False, a.exp_statsn
    itt = a.begin(read16(1000, 80), 40960)
    parts = []
    if seen == 0:  # it has been answered, all the same
        a.send(initiator.NOP_OUT | 0x40, FINAL, b"", ((20, NONE), (24, a.cmdsn)))
        while a.receive().opcode != initiator.NOP_IN:
            pass
    for _ in range(seen):
        parts.append(a.receive().data)
    a.kill()
    assert b.recover(a.cid) == 0
    assert b.reassign(itt, seen) == COMPLETE
    at, sn = sum(map(len, parts)), seen
    while True:
        pdu = b.receive()
        if seen == 5:  # but for the status
            assert pdu.opcode == RESPONSE and pdu.bhs[3] == 0 and pdu.word(36) == 5
            break
        assert pdu.opcode == DATA_IN and (pdu.word(36), pdu.word(40)) == (sn, at)
        parts.append(pdu.data)
        at, sn = at + len(pdu.data), sn + 1
        if pdu.flags & 1:
            break
    assert b"".join(parts) == data


def status_again(a, b, rng):
    """A write that is done, and whose status nobody has acknowledged; done once."""
    data, newer = rng.randbytes(512), rng.randbytes(512)
    a.acks = False
    a.first_statsn = a.exp_statsn
    itt = a.begin(write16(2000, 1), 512, data)
    b.session.max_cmdsn = 0
    assert a.finish(itt).status == 0
    a.kill()
    b.write(2000, newer)
    assert b.recover(a.cid) == 0
    assert b.reassign(itt) == COMPLETE
    assert b.finish(itt).status == 0
    assert b.read(2000, 1) == newer


def held_again(a, b, rng):
    """What waited for its turn goes with its connection, and is sent again, even twice."""
    first, second = b.reserve(), b.reserve()
    data = rng.randbytes(512)
    a.command_as(*second, read16(2500, 1), 512, FINAL | 0x40)
    a.nop()
    a.kill()
    assert b.recover(a.cid) == 0
    assert b.session.exp_cmdsn == first[1]
    for _ in range(2):
        b.command_as(*second, read16(2500, 1), 512, FINAL | 0x40)
    b.command_as(*first, write16(2500, 1), 512, FINAL | 0x20, data)
    assert b.finish(first[0]).status == 0
    assert b.finish(second[0]).data == data


def half_again(a, b, rng):
    """What was not there as a whole is unknown at once, and may be sent again."""
    itt, cmdsn = b.reserve()
    data = rng.randbytes(4096)
    words = struct.unpack(">4I", write16(2600, 8))
    fields = [(20, 4096), (24, cmdsn)] + [(32 + 4 * n, w) for n, w in enumerate(words)]
    a.sock.sendall(a.pack(COMMAND, FINAL | 0x21, data, fields, itt=itt)[:1000])
    b.nop()  # so that it has come
    now = ((24, cmdsn + 1),)
    b.sock.sendall(
        b.pack(initiator.LOGOUT | 0x40, FINAL | 2, b"", ((20, a.cid << 16), *now), itt=9001) +
        b.pack(initiator.TMF | 0x40, FINAL | 8, b"", ((20, itt), *now), itt=9002) +
        b.pack(COMMAND, FINAL | 0x21, data, fields, itt=itt))
    assert b.response_to(9001, initiator.LOGOUT_RESPONSE) == 0
    assert b.response_to(9002, initiator.TMF_RESPONSE) == NO_TASK
    assert b.finish(itt).status == 0
    assert b.read(2600, 8) == data


def levels(s, rng):
    session = Session(s.iscsi_port, IQN, LEVEL2)
    a = session.ready()
    assert session.agreed["ErrorRecoveryLevel"] == "2"
    assert session.agreed["DefaultTime2Retain"] == "20"
    b = session.link()
    gather_again(a, b, rng)
    data = b.read(1000, 80)
    for seen in (0, 1, 3, 5):
        read_again(session.link(), b, data, seen)
    status_again(session.link(), b, rng)
    held_again(session.link(), b, rng)
    half_again(session.link(), b, rng)
    # One connection, cut: the next with its CID is an implicit logout for recovery.
    b.log_out_of(1, b.cid)
    return data


def continued(s, rng):
    """All connections are cut; the session goes on with the next, and so do its commands."""
    keys = {**LEVEL2, "MaxConnections": "1", "ImmediateData": "Yes"}
    session = Session(s.iscsi_port, IQN, keys)
    a = session.ready()
    data = rng.randbytes(32768)
    itt = a.begin(write16(3000, 64), 32768, data)
    first = a.receive()
    assert first.opcode == R2T
    reading = a.begin(read16(4000, 8), 4096)
    a.finish(reading)
    a.kill()
    b = session.link(cid=a.cid)

    assert b.reassign(itt, 0) == COMPLETE
    assert b.finish(itt, data).status == 0
    assert b.read(3000, 64) == data
    b.kill()
    refused(lambda: Link(session, 8).login(tsih=session.tsih ^ 1), 0x020A)
    c = session.link(cid=7)  # one more than MaxConnections, for there is one to be cleaned up
    assert c.recover(a.cid) == 0
    assert c.read(3000, 64) == data
    c.logout()


def given_up(s, rng):
    """Nobody comes for the tasks in time: they are over, and the unit says so."""
    keys = {**LEVEL2, "DefaultTime2Wait": "0", "DefaultTime2Retain": "1"}
    session = Session(s.iscsi_port, IQN, keys)
    a = session.ready()
    b = session.link()
    settle(b)
    data = rng.randbytes(512)
    b.write(5000, data)
    itt = a.command(write16(5000, 16), 8192, FINAL | 0x20)
    assert a.receive().opcode == R2T
    a.kill()
    assert b.recover(a.cid) in (0, 1)  # on a slow machine the time is over already

    def cleared():
        done = b.run(b"\0" * 6)
        return done.status == 2 and asc(done) == CLEARED

    zt.wait_for(cleared, every_s=0.05)
    assert b.reassign(itt) == NO_TASK
    assert b.read(5000, 1) == data
    # The reset of a session: whoever logs in anew does not wait for what is retained.
    c = session.link()
    c.kill()
    b.kill()
    again = Session(s.iscsi_port, IQN, keys)
    again.isid = session.isid
    again.ready().logout()


def many_fail(s):
    """Of as many as a session may have connections twice over the oldest has to go. None of them
    keeps a buffer to receive into."""
    session = Session(s.iscsi_port, IQN, {**LEVEL2, "DefaultTime2Wait": "3600"})
    last = session.ready()
    itts = []
    for _ in range(16):
        itts.append(last.begin(bytes(6)))
        assert last.finish(itts[-1]).status == 0  # which is not acknowledged
        last = session.link(cid=1)
    memory = json.loads(s.cli("status", "--json").stdout)["memory"]["by_owner"]
    assert memory["ingress"] < 5 * 32768, memory
    assert last.reassign(itts[0]) == NO_TASK
    assert last.reassign(itts[1]) == COMPLETE
    again = Session(s.iscsi_port, IQN, LEVEL2)
    again.isid = session.isid
    return again.ready()


def drained(s, link):
    """Who goes while the server drains is not waited for."""
    s.process.send_signal(signal.SIGTERM)
    assert link.event()[0] == 1  # log out
    link.kill()
    s.stop()
    assert "have not logged out in time" not in s.log_text(), s.log_text()


def main():
    with zt.Server() as s:
        s.cli("iscsi", "create-target", "--iqn", IQN, "--lun", "0", "--size", "16M")
        s.start()
        rng = random.Random(11)
        session, links = joining(s)
        order(session, links, rng)
        one_goes(links, rng)
        one_is_cut(links, rng)
        replaced(links, rng)
        fenced(links)
        logout_waits(links)
        logout_twice(links)
        all_leave(links)
        levels(s, rng)
        continued(s, rng)
        given_up(s, rng)
        drained(s, many_fail(s))


main()
