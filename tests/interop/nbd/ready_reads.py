#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Reads that come by the dozen, while what they read is overwritten, discarded, flushed and sealed
by another connection: none is torn within a page, and none is older than what was acknowledged
before it was sent. Then the device is made smaller and larger, and is deleted, under them."""
import os
import random
import threading

import rawnbd
import zt

PAGE = 32 << 10
PAGES = 48
SIZE = 64 << 20
SECONDS = 20 if zt.SOAK else 4


class State:
    def __init__(self):
        self.asked = [0] * PAGES  # the newest stamp that was sent
        self.done = [0] * PAGES   # and the newest one that was acknowledged
        self.sent = [[0] for _ in range(PAGES)]
        self.stop = False
        self.over = threading.Event()
        self.wrong = []

    def fail(self, why):
        self.wrong.append(why)
        self.over.set()


def word(stamp):
    return stamp.to_bytes(8, "big")


def writer(k, state):
    """The stamps of a page rise; a multiple of 7 is a discard, which reads as zeros."""
    try:
        stamp = 0
        while not state.stop:
            under_way = {}
            for page in random.sample(range(PAGES), 8):
                stamp += 1
                state.asked[page] = stamp
                state.sent[page].append(stamp)
                if stamp % 7 == 0:
                    cookie = k.send(rawnbd.WRITE_ZEROES, page * PAGE, PAGE)
                else:
                    data = word(stamp) * (PAGE // 8)
                    cookie = k.send(rawnbd.WRITE, page * PAGE, payload=data)
                under_way[cookie] = page, stamp
            while under_way:
                reply = k.receive()
                assert not reply.error, reply.error
                page, at = under_way.pop(reply.cookie)
                state.done[page] = at
            if random.randrange(4) == 0:
                k.flush()
    except Exception as e:  # pylint: disable=broad-except
        state.fail(f"writer: {e!r}")


def check(state, data, page, least, most):
    first = data[:8]
    if data != first * (len(data) // 8):
        return f"page {page} is torn: {data[:8].hex()} {data[-8:].hex()}"
    stamp = int.from_bytes(first, "big")
    if stamp == 0:
        zero = any(n % 7 == 0 and least <= n <= most for n in state.sent[page])
        return None if zero else f"page {page}: zeros where {least} to {most} should be"
    return None if least <= stamp <= most else f"page {page}: {stamp} is not {least} to {most}"


def reader(k, state, count):
    try:
        while not state.stop:
            sent, requests = {}, b""
            for _ in range(random.choice((1, 5, 40))):
                page = random.randrange(PAGES)
                off = random.randrange(0, PAGE, 512)
                length = min(random.choice((512, 4096, PAGE)), PAGE - off)
                cookie, header = k.header(rawnbd.READ, page * PAGE + off, length)
                k.reads[cookie] = length
                sent[cookie] = page, state.done[page], length, page * PAGE + off
                requests += header
            k.put(requests)
            while sent:
                reply = k.receive()
                assert not reply.error, reply.error
                page, least, length, off = sent.pop(reply.cookie)
                wrong = check(state, reply.bytes_at(off, length), page, least, state.asked[page])
                if wrong:
                    state.fail(wrong)
                    return
                count[0] += 1
    except Exception as e:  # pylint: disable=broad-except
        state.fail(f"reader: {e!r}")


def run(s, mode):
    state, count = State(), [0]
    address = ("127.0.0.1", s.nbd_port)
    k = rawnbd.Client(address)
    k.enter("disk")
    for page in range(PAGES):
        k.write(page * PAGE, bytes(PAGE))
    threads = [threading.Thread(target=writer, args=(k, state))]
    for _ in range(3):
        r = rawnbd.Client(address)
        r.enter("disk", mode=mode)
        threads.append(threading.Thread(target=reader, args=(r, state, count)))
    for t in threads:
        t.start()
    state.over.wait(SECONDS)
    state.stop = True
    for t in threads:
        t.join()
    assert not state.wrong, state.wrong
    assert count[0] > 1000, count
    print(count[0], "reads,", max(state.done), "changes")


def read_on(s, state, count):
    """Whatever is read is answered, with data or with an error that fits, until the device goes."""
    k = rawnbd.Client(("127.0.0.1", s.nbd_port))
    k.enter("disk", mode=rawnbd.STRUCTURED)
    try:
        while not state.stop:
            sent, requests = set(), b""
            for _ in range(40):
                cookie, header = k.header(rawnbd.READ, random.randrange(0, SIZE, 4096), 4096)
                sent.add(cookie)
                requests += header
            k.put(requests)
            while sent:
                reply = k.receive()
                sent.remove(reply.cookie)
                if reply.error not in (0, rawnbd.EINVAL, rawnbd.ESHUTDOWN):
                    state.wrong.append(f"error {reply.error}")
                count[reply.error != 0] += 1
    except rawnbd.Closed:
        pass


def gone(s):
    """A device that shrinks, grows, and goes under its readers."""
    for _ in range(3):
        state, count = State(), [0, 0]
        k = rawnbd.Client(("127.0.0.1", s.nbd_port))
        k.enter("disk")
        k.write(2 << 20, os.urandom(1 << 20))
        threads = [threading.Thread(target=read_on, args=(s, state, count)) for _ in range(3)]
        for t in threads:
            t.start()
        for _ in range(3):
            s.cli("nbd", "resize", "disk", "--size", "1M", "--force")
            s.cli("nbd", "resize", "disk", "--size", "64M")
        assert k.read(2 << 20, 1 << 20) == bytes(1 << 20)
        s.cli("nbd", "delete", "disk", "--force", "--disconnect")
        state.stop = True
        for t in threads:
            t.join()
        assert not state.wrong, state.wrong
        assert count[0] > 0 and count[1] > 0, count
        k.close()
        s.cli("nbd", "create", "--name", "disk", "--size", "64M")


def main():
    with zt.Server() as s:
        s.cli("nbd", "create", "--name", "disk", "--size", "64M")
        s.start()
        for mode in (rawnbd.SIMPLE, rawnbd.STRUCTURED):
            run(s, mode)
        gone(s)
        s.stop()


main()
