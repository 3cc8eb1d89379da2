#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# compression: any (what is told is not what is stored)
"""Who lost unflushed writes to a kill -9 is told of it until it has heard: iSCSI initiators say so
with ExpStatSN, NBD clients by going on, or by leaving in peace, with DISC or without. An answer
that was never acknowledged, or never read, is given again."""
import os

import rawnbd
import zt
from links import Session, settle
from rawnbd import EIO, FLUSH

IQN = "iqn.2024-01.net.zerofs:unheard"
LEVEL2 = {"ErrorRecoveryLevel": "2", "DefaultTime2Wait": "2", "DefaultTime2Retain": "20"}
SYNC = b"\x35" + bytes(9)
WRITE = b"\x2a" + bytes(7) + b"\x01\x00"
LOST = bytes.fromhex("0c00")


def session(s, name, keys=None):
    """The same nexus for the same name."""
    made = Session(s.iscsi_port, IQN, keys, "iqn.2024-01.test:" + name)
    made.isid = b"\x80\0\0\0\0\1"
    return made


def told(link):
    """Whether a flush fails with the loss."""
    done = link.run(SYNC)
    assert done.status == 0 or (done.status, done.sense[2] & 15, done.sense[12:14]) == (2, 4, LOST)
    return done.status != 0


def is_told(s, name, keys=None):
    """The same, of a session that comes and goes."""
    link = session(s, name, keys).ready()
    answer = told(link)
    link.close()
    return answer


def nbd_told(k):
    error = k.call(FLUSH).error
    assert error in (0, EIO), error
    return error != 0


def lose(s, names):
    """The server dies with writes of all of these, and of an NBD client, and comes back on what
    may be another machine: what was lost it cannot know."""
    links = [session(s, name).ready() for name in names]
    links[0].run(WRITE, out=b"x" * 512)
    k = rawnbd.Client(s.nbd_socket).enter("disk")
    k.write(0, b"x" * 4096)
    s.kill()
    for end in (*links, k):
        end.close()
    os.unlink(os.path.join(s.dir, "cache", "witness"))
    s.start()


def deaf(link):
    """From now on it acknowledges nothing."""
    link.acks, link.first_statsn = False, link.exp_statsn
    return link


def by_acknowledgement(s, name, keys=None):
    for _ in range(2):
        link = deaf(session(s, name, keys).ready())
        assert told(link)
        assert not told(link), "told twice on one connection"
        link.nop()
        link.close()
    link = session(s, name, keys).ready()
    assert told(link), "what nobody acknowledged counts as heard"
    link.nop()  # acknowledges it
    link.close()
    assert not is_told(s, name, keys), "told again, although it was acknowledged"


def by_logout(s, name):
    link = session(s, name).ready()
    assert told(link)
    assert link.log_out_of(0, link.cid) == 0
    link.close()
    assert not is_told(s, name)


def by_ping(s, name):
    """Whoever has nothing to say is asked for the acknowledgement."""
    link = session(s, name).ready()
    assert told(link)
    assert link.take_pdu() is None, "no ping"
    link.nop()
    link.close()
    assert not is_told(s, name)


def by_another_connection(s, name):
    """A command that goes the other way is told as well, while the first answer may be lost."""
    both = session(s, name, {"MaxConnections": "2"})
    first = deaf(both.ready())
    second = both.link()
    assert told(first)
    assert told(second), "the first one may be gone already"
    second.nop()
    assert not told(first)
    assert not told(second)
    first.close()
    second.close()
    assert not is_told(s, name)


def by_either_connection(s, name):
    """Who hears on each is told once on each."""
    both = session(s, name, {"MaxConnections": "2"})
    first = both.ready()
    second = both.link()
    assert told(first)
    assert told(second), "the first one may be gone already"
    assert not told(first), "told again, although it was acknowledged"
    assert not told(second)
    first.close()
    second.close()
    assert not is_told(s, name)


def over_iscsi(s):
    lose(s, ["ack", "ack2", "logout", "ping", "both", "either", "kept"])
    by_acknowledgement(s, "ack")
    by_acknowledgement(s, "ack2", LEVEL2)
    by_logout(s, "logout")
    by_ping(s, "ping")
    by_another_connection(s, "both")
    by_either_connection(s, "either")
    link = deaf(session(s, "kept").ready())
    assert told(link)
    link.close()
    s.stop()
    s.start()
    assert is_told(s, "kept"), "what nobody acknowledged is gone from the record"
    for name in ("ack", "ack2", "logout", "ping", "both", "either"):
        assert not is_told(s, name), f"{name}: the record still has what was heard"


def unread(s, address):
    """The answer to a flush has come, and is not read."""
    k = rawnbd.Client(address).enter("disk")
    k.send(FLUSH)
    zt.wait_for(k.has_input)
    return k


def over_nbd(s, address):
    lose(s, ["other"])
    unread(s, address).close()
    k = unread(s, s.nbd_socket)
    k.send(rawnbd.READ, 0, 512)  # it goes on, and has read nothing
    zt.wait_for(lambda: len(k.socket.recv(64, rawnbd.socket.MSG_PEEK)) > 16)
    k.close()
    k = rawnbd.Client(address).enter("disk")
    other = rawnbd.Client(address).enter("disk")
    assert nbd_told(k), "what nobody has read counts as heard"
    assert nbd_told(other), "the first one may be gone already"
    assert not nbd_told(k), "told twice on one connection"
    assert not nbd_told(other)
    other.disconnect()
    k.disconnect()
    k = rawnbd.Client(address).enter("disk")
    assert not nbd_told(k)
    k.disconnect()
    lose(s, ["other"])
    k = rawnbd.Client(address).enter("disk")
    assert nbd_told(k)
    k.disconnect()
    k = rawnbd.Client(address).enter("disk")
    assert not nbd_told(k), "told again, although it has left in peace"
    k.disconnect()
    lose(s, ["other"])
    k = rawnbd.Client(address).enter("disk")
    assert nbd_told(k)
    k.socket.shutdown(rawnbd.socket.SHUT_WR)  # it has read it, and leaves without DISC
    assert k.is_closed()
    k.close()
    k = rawnbd.Client(address).enter("disk")
    assert not nbd_told(k), "told again, although it has closed in order"
    k.disconnect()


def main():
    with zt.Server() as s:
        s.cli("nbd", "create", "--name", "disk", "--size", "1M")
        s.cli("iscsi", "create-target", "--iqn", IQN, "--lun", "0", "--size", "1M")
        s.start()
        over_iscsi(s)
        over_nbd(s, ("127.0.0.1", s.nbd_port))
        over_nbd(s, s.nbd_socket)
        s.stop()


main()
