# SPDX-License-Identifier: Apache-2.0
"""A network between the server and its S3 store that does what networks and stores do on bad days,
and that counts what passes. It runs as a process of its own.

    with proxy.Proxy(gateway.endpoint, seed=7) as p:
        zt.Server(endpoint=p.endpoint, ...)
        p.rules({"do": "drop_after", "chance": 0.05, "method": "PUT"},
                {"do": "status", "chance": 0.02, "status": 503, "code": "SlowDown"})
        p.requests()            # all since the last call

The first rule that matches and whose chance comes up is carried out. What a rule can do:

    delay         ms = [least, most], before the request goes on
    stall         the request never arrives, and nobody says so
    drop_before   the connection ends before the request is passed on
    drop_after    it ends after the store has answered
    late          it ends, and the request reaches the store ms later
    cut           it ends in the middle of the request's body, also for the store
    truncate      it ends in the middle of the answer's body (or head, when there is no body)
    duplicate     the request is passed on twice; either answer comes back
    spoil_body    a byte of the answer's body (of the request's, with "of": "request") is changed;
                  the byte "at", or any
    spoil_head    a byte of the answer's head is changed
    status        "status" with the error "code" comes back, and the request is not passed on
    status_after  the same, but it was passed on, and carried out

A rule may have "method", "key" and "head" (regular expressions), "chance" (1 otherwise), "times",
"apart": the next request for the same key is spared, and "once": all later ones are.
"""
import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

PIECE = 1 << 18
HEAD_LIMIT = 1 << 16


class Ended(Exception):
    """The other side has closed the connection."""


# -- the process that tests see ----------------------------------------------------------------


class Proxy:
    def __init__(self, upstream, seed=0):
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), urllib.parse.urlsplit(upstream).netloc,
             str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.endpoint = f"http://127.0.0.1:{json.loads(self.process.stdout.readline())}"

    def ask(self, **words):
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def rules(self, *rules):
        """From now on these; none lets everything pass."""
        self.ask(rules=rules)

    def requests(self):
        """What has ended since the last call: dictionaries with method, key, query, range, status,
        fault, sent, got, at, ms."""
        return self.ask(requests=True)

    def under_way(self):
        return self.ask(under_way=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


# -- what it does ----------------------------------------------------------------


class Stream:
    def __init__(self, sock):
        self.sock, self.left = sock, b""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def more(self):
        data = self.sock.recv(PIECE)
        if not data:
            raise Ended()
        self.left += data

    def head(self):
        while (end := self.left.find(b"\r\n\r\n")) < 0:
            if len(self.left) > HEAD_LIMIT:
                raise Ended()
            self.more()
        head, self.left = self.left[:end + 4], self.left[end + 4:]
        return head

    def exactly(self, count):
        parts, have = [self.left[:count]], min(count, len(self.left))
        self.left = self.left[count:]
        while have < count:
            data = self.sock.recv(min(1 << 20, count - have))
            if not data:
                raise Ended()
            parts.append(data)
            have += len(data)
        return b"".join(parts)

    def line(self):
        while (end := self.left.find(b"\r\n")) < 0:
            self.more()
        line, self.left = self.left[:end], self.left[end + 2:]
        return line

    def chunks(self):
        parts = []
        while size := int(self.line().split(b";")[0], 16):
            parts.append(self.exactly(size))
            self.line()
        while self.line():
            pass
        return b"".join(parts)

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()


def field(head, name):
    found = re.search(rb"\r\n" + name.encode() + rb":[ \t]*(.*?)[ \t]*\r\n", head, re.I)
    return found.group(1).decode("latin-1") if found else None


class Request:
    def __init__(self, client):
        self.head = client.head()
        self.method, target, _ = self.head.split(b"\r\n")[0].decode("latin-1").split(" ")
        path, _, self.query = target.partition("?")
        self.key = urllib.parse.unquote(path).lstrip("/").partition("/")[2]
        self.at = time.time()
        if (field(self.head, "expect") or "").lower() == "100-continue":
            client.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.head = re.sub(rb"\r\nexpect:[^\r]*", b"", self.head, flags=re.I)
        if (field(self.head, "transfer-encoding") or "").lower() == "chunked":
            self.body = client.chunks()
            length = b"\r\nContent-Length: %d" % len(self.body)
            self.head = re.sub(rb"\r\ntransfer-encoding:[^\r]*", length, self.head, flags=re.I)
        else:
            self.body = client.exactly(int(field(self.head, "content-length") or 0))


class Answer:
    def __init__(self, head, body):
        self.head, self.body = head, body
        self.status = int(head.split(b" ", 2)[1])

    @staticmethod
    def of(status, code):
        body = (f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code>'
                f"<Message>{code}</Message><RequestId>0</RequestId></Error>").encode()
        head = (f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\n"
                f"Content-Length: {len(body)}\r\n\r\n").encode()
        return Answer(head, body)


def spoiled(data, rnd, at=None):
    if not data:
        return data
    at = rnd.randrange(len(data)) if at is None else min(at, len(data) - 1)
    return data[:at] + bytes([data[at] ^ 1 << rnd.randrange(8)]) + data[at + 1:]


class Upstream:
    """One client's connection to the store."""

    def __init__(self, host):
        name, _, port = host.partition(":")
        self.address, self.stream = (name, int(port)), None

    def exchange(self, request, body=None):
        body = request.body if body is None else body
        while True:
            fresh = self.stream is None
            if fresh:
                self.stream = Stream(socket.create_connection(self.address))
            try:
                self.stream.sock.sendall(request.head + body)
                return self.answer(request)
            except (OSError, Ended):
                self.close()
                if fresh:
                    raise Ended() from None

    def answer(self, request):
        while True:
            head = self.stream.head()
            status = int(head.split(b" ", 2)[1])
            if status >= 200:
                break
        if request.method == "HEAD" or status in (204, 304):
            body = b""
        elif (field(head, "transfer-encoding") or "").lower() == "chunked":
            body = self.stream.chunks()
            head = re.sub(rb"\r\ntransfer-encoding:[^\r]*",
                          b"\r\nContent-Length: %d" % len(body), head, flags=re.I)
        else:
            body = self.stream.exactly(int(field(head, "content-length") or 0))
        if (field(head, "connection") or "").lower() == "close":
            self.close()
        return Answer(head, body)

    def cut(self, request):
        self.close()
        stream = Stream(socket.create_connection(self.address))
        stream.sock.sendall(request.head + request.body[:len(request.body) // 2])
        stream.close()

    def close(self):
        if self.stream:
            self.stream.close()
        self.stream = None


class World:
    def __init__(self, host, seed):
        self.host, self.rnd = host, random.Random(seed)
        self.lock = threading.Lock()
        self.rules, self.record, self.under_way = [], [], 0
        self.spared, self.met = set(), set()

    def rule_for(self, request):
        with self.lock:
            for rule in self.rules:
                if ("method" in rule and request.method != rule["method"] or
                        "key" in rule and not re.search(rule["key"], request.key) or
                        "head" in rule and not re.search(rule["head"].encode(), request.head) or
                        rule.get("times", 1) <= 0 or self.rnd.random() >= rule.get("chance", 1)):
                    continue
                if rule.get("once"):
                    if request.key in self.met:
                        continue
                    self.met.add(request.key)
                if rule.get("apart"):
                    if request.key in self.spared:
                        self.spared.remove(request.key)
                        continue
                    self.spared.add(request.key)
                if "times" in rule:
                    rule["times"] -= 1
                return rule
        return {"do": None}

    def client(self, sock):
        client, upstream = Stream(sock), Upstream(self.host)
        try:
            while True:
                request = Request(client)
                with self.lock:
                    self.under_way += 1
                try:
                    self.serve(client, upstream, request)
                finally:
                    with self.lock:
                        self.under_way -= 1
        except (OSError, Ended, ValueError):
            pass
        client.close()
        upstream.close()

    def serve(self, client, upstream, request):
        rule = self.rule_for(request)
        status = 0
        try:
            answer = FAULTS.get(rule["do"], pass_on)(self, client, upstream, request, rule)
            status = answer.status
        finally:
            entry = {"method": request.method, "key": request.key, "query": request.query,
                     "range": field(request.head, "range"), "status": status,
                     "fault": rule["do"], "sent": len(request.body), "at": request.at,
                     "got": len(answer.body) if status else 0,
                     "ms": (time.time() - request.at) * 1000}
            with self.lock:
                self.record.append(entry)  # so that who has the answer finds it
        client.sock.sendall(answer.head + answer.body)
        if rule["do"] in ("truncate", "cut"):
            raise Ended()


def pass_on(world, client, upstream, request, rule):
    return upstream.exchange(request)


def delay(world, client, upstream, request, rule):
    least, most = rule["ms"]
    time.sleep((least + (most - least) * world.rnd.random()) / 1000)
    return upstream.exchange(request)


def stall(world, client, upstream, request, rule):
    client.sock.recv(1)
    raise Ended()


def drop_before(world, client, upstream, request, rule):
    raise Ended()


def drop_after(world, client, upstream, request, rule):
    upstream.exchange(request)
    raise Ended()


def late(world, client, upstream, request, rule):
    def arrive():
        mine = Upstream(world.host)
        try:
            mine.exchange(request)
        except (OSError, Ended):
            pass
        mine.close()

    threading.Timer(rule["ms"] / 1000, arrive).start()
    raise Ended()


def cut(world, client, upstream, request, rule):
    upstream.cut(request)
    raise Ended()


def truncate(world, client, upstream, request, rule):
    answer = upstream.exchange(request)
    if answer.body:
        answer.body = answer.body[:world.rnd.randrange(len(answer.body))]
    else:
        answer.head = answer.head[:len(answer.head) // 2]
    return answer


def duplicate(world, client, upstream, request, rule):
    return world.rnd.choice([upstream.exchange(request), upstream.exchange(request)])


def spoil_body(world, client, upstream, request, rule):
    if rule.get("of") == "request":
        return upstream.exchange(request, spoiled(request.body, world.rnd))
    answer = upstream.exchange(request)
    answer.body = spoiled(answer.body, world.rnd, rule.get("at"))
    return answer


def spoil_head(world, client, upstream, request, rule):
    answer = upstream.exchange(request)
    answer.head = spoiled(answer.head[:-4], world.rnd) + b"\r\n\r\n"
    return answer


def status_before(world, client, upstream, request, rule):
    return Answer.of(rule["status"], rule.get("code", "InternalError"))


def status_after(world, client, upstream, request, rule):
    upstream.exchange(request)
    return Answer.of(rule["status"], rule.get("code", "InternalError"))


FAULTS = {"delay": delay, "stall": stall, "drop_before": drop_before, "drop_after": drop_after,
          "late": late, "cut": cut, "truncate": truncate, "duplicate": duplicate,
          "spoil_body": spoil_body, "spoil_head": spoil_head, "status": status_before,
          "status_after": status_after}


def obey(world):
    for line in sys.stdin:
        words, said = json.loads(line), None
        with world.lock:
            if "rules" in words:
                world.rules, world.met = words["rules"], set()
            elif "requests" in words:
                said, world.record = world.record, []
            elif "under_way" in words:
                said = world.under_way
        print(json.dumps(said), flush=True)
    os._exit(0)


def main():
    world = World(sys.argv[1], int(sys.argv[2]))
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    threading.Thread(target=obey, args=(world,), daemon=True).start()
    print(json.dumps(listener.getsockname()[1]), flush=True)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=world.client, args=(sock,), daemon=True).start()


if __name__ == "__main__":
    main()
