#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# store: s3
"""What an S3 server may answer besides yes: each is played by a stub, and the store is driven
through zerofs-obj."""
import concurrent.futures
import contextlib
import datetime
import json
import os
import subprocess
import tempfile
import threading
import time

import http.server

import s3stub
import zt

TOOL = os.path.join(os.environ["BUILD"], "tests/obj/zerofs-obj")
STALLED_S = 15  # then an answer that makes no progress is given up
COMMIT, INDEX, READ, COLLECT = 0, 1, 2, 5
QUIET = {"AWS_EC2_METADATA_DISABLED": "true", "HOME": zt.TMPDIR, "PATH": os.environ["PATH"]}


class Store:
    """The tool, with its store open; or how it failed."""

    def __init__(self, stub, url="s3://bucket/pre", env=None, keys=True, **options):
        given = {"endpoint": stub.endpoint, "allow_http": "true", **options}
        if keys:
            given.update(access_key_id=s3stub.KEY, secret_access_key=s3stub.SECRET)
        self.log = tempfile.TemporaryFile(dir=zt.TMPDIR)
        self.process = subprocess.Popen(
            [TOOL, url, *(f"{k}={v}" for k, v in given.items())], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.log, text=True, env={**QUIET, **(env or {})})
        self.opened = self.process.stdout.readline().strip()

    def __call__(self, *words):
        print(*words, file=self.process.stdin, flush=True)
        return self.process.stdout.readline().rstrip("\n")

    def text(self):
        self.log.seek(0)
        return self.log.read().decode()

    def __enter__(self):
        assert self.opened == "ok", (self.opened, self.text())
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        self.process.stdin.close()
        self.process.wait(zt.LIMIT_S)
        self.process.stdout.close()
        text = self.text()
        self.log.close()
        assert "Sanitizer" not in text, text
        assert s3stub.SECRET not in text, text
        return self.opened, text


@contextlib.contextmanager
def opened(**options):
    with s3stub.Stub() as stub, Store(stub, **options) as s:
        stub.seen.clear()
        yield stub, s


def times(n, answer, when=lambda q: True):
    """A rule that answers n requests so."""
    left = [n]

    def rule(q):
        if left[0] and when(q):
            left[0] -= 1
            return answer(q) if callable(answer) else (answer[0], dict(answer[1]), answer[2])
        return None
    return rule


def does_what_a_store_does():
    with opened() as (stub, s):
        stub.page = 3
        for i in range(10):
            assert s("put", INDEX, f"a/{i}", f"text{i}") == "ok"
        assert s("put", COMMIT, "a/1", "x") == "EEXIST"
        assert s("get", READ, "a/1", 0, 100) == "ok text1"
        assert s("get", READ, "a/1", 2, 2) == "ok xt"
        assert s("get", READ, "a/1", 5, 2) == "ok "
        assert s("get", READ, "a/none", 0, 2) == "ENOENT"
        assert s("get", READ, "a/1", 0, 0) == "ok "
        assert s("head", READ, "a/1") == "ok 5"
        assert s("head", READ, "a/none") == "ENOENT 0"
        stub.seen.clear()
        assert s("list", INDEX, "a/", "-", 100) == "ok " + " ".join(f"a/{i}" for i in range(10))
        assert len(stub.seen) == 4
        assert s("list", INDEX, "a/", "a/3", 2) == "ok a/4 a/5 ..."
        assert s("list", INDEX, "a/", "a/7", 2) == "ok a/8 a/9"
        assert s("list", INDEX, "b", "-", 2) == "ok"
        stub.seen.clear()
        assert s("remove", COLLECT, *(f"a/{i}" for i in range(9)), "a/none") == "ok"
        assert [q.method for q in stub.seen] == ["POST"]
        assert s("remove", COLLECT, "a/9") == "ok" and s("remove", COLLECT, "a/9") == "ok"
        assert not stub.objects


def repeats_what_passes():
    answers = [s3stub.error(503, "SlowDown"), s3stub.error(500, "InternalError"),
               s3stub.error(429, "TooManyRequests"),
               s3stub.error(409, "ConditionalRequestConflict"),
               s3stub.error(400, "RequestTimeout"), (502, {}, b"<html>bad gateway</html>"),
               (200, {"cut": True}, b"x" * 100), (404, {}, b"<html>not found</html>"),
               (None, {}, b"\n"), (None, {}, b"HTTP/1.1 101 other\r\n\r\n"),
               (None, {}, b"\r\nrest of something")]
    for answer in answers:
        with opened() as (stub, s):
            if answer[0] != 200:
                stub.rule = times(2, answer)
            assert s("put", INDEX, "a", "abc") == "ok", answer
            for words, good in ((("get", READ, "a", 0, 3), "ok abc"),
                                (("list", READ, "a", "-", 9), "ok a"),
                                (("remove", COLLECT, "b"), "ok")):
                if answer[0] in (200, 404) and words[0] == "remove":
                    continue
                stub.rule = times(2, answer)
                assert s(*words) == good, (answer, words)


def a_commit_is_told_at_once():
    with opened() as (stub, s):
        stub.rule = times(1, s3stub.error(503, "SlowDown"))
        assert s("put", COMMIT, "a", "abc") == "EAGAIN"
        stub.rule = times(1, s3stub.error(409, "ConditionalRequestConflict"))
        assert s("put", COMMIT, "a", "abc") == "EAGAIN"
        assert s("put", COMMIT, "a", "abc") == "ok"
        assert len(stub.seen) == 3


def denied_is_not_absent():
    with opened() as (stub, s):
        denied = s3stub.error(403, "AccessDenied", "no & no".replace("&", "&amp;"))
        stub.rule = times(9, denied)
        assert s("get", READ, "a", 0, 3) == "EACCES"
        assert s("head", READ, "a") == "EACCES 0"
        assert s("list", READ, "a", "-", 3) == "EACCES"
        assert s("put", COMMIT, "a", "x") == "EACCES"
        assert s("outlast") == "ok"
        stub.rule = times(2, denied)
        stub.objects["pre/a"] = b"abc"
        assert s("get", READ, "a", 0, 3) == "ok abc"
        assert s.text().count("trying again until it works") == 1
        assert "403 AccessDenied: no & no" in s.text()


def a_full_store_is_away():
    """Though it answers reads."""
    with opened() as (stub, s):
        stub.objects["pre/a"] = b"abc"
        stub.rule = lambda q: s3stub.error(403, "QuotaExceeded") if q.method == "PUT" else None
        assert s("put", COMMIT, "b", "x") == "ENOSPC"
        assert s("get", READ, "a", 0, 3) == "ok abc"
        assert "trying again until it works" in s.text() and "answers again" not in s.text()
        stub.rule = lambda q: None
        assert s("get", READ, "a", 0, 3) == "ok abc" and "answers again" not in s.text()
        assert s("put", COMMIT, "b", "x") == "ok"
        assert s.text().count("answers again") == 1


def a_bucket_that_is_gone():
    with opened() as (stub, s):
        stub.rule = lambda q: s3stub.error(404, "NoSuchBucket")
        assert s("get", READ, "a", 0, 3) == "ESTALE"
        assert s("head", READ, "a") == "ESTALE 0"
        assert s("list", READ, "a", "-", 3) == "ESTALE"


def notices_spoilt_answers():
    spoilt = [
        (206, {"content-range": "bytes 0-2/3", "x-amz-checksum-crc32c": s3stub.crc_text(b"abd")},
         b"abc"),
        (206, {"content-range": "bytes 1-3/4"}, b"abc"),
        (206, {"content-range": "bytes 0-1/3"}, b"ab"),
        (206, {}, b"abc"),
        (206, {"content-range": "bytes 0-2/3", "cut": True}, b"abc"),
        # What would be waited for in vain.
        (206, {"content-range": "bytes 0-2/3", "content-length": "300"}, b"abc"),
        (206, {"content-range": "bytes 0-299/300", "content-length": "300"}, b"abc"),
        (206, {"content-range": "bytes 0-18446744073709551615/3"}, b"abc"),
    ]
    for answer in spoilt:
        with opened() as (stub, s):
            stub.objects["pre/a"] = b"abc"
            took = []
            while not took or (took[-1] >= STALLED_S and len(took) < 3):  # a machine may be slow
                stub.rule = times(1, answer)
                stub.seen.clear()
                begin = time.monotonic()
                assert s("get", READ, "a", 0, 3) == "ok abc", answer
                took.append(time.monotonic() - begin)
                assert len(stub.seen) == 2, answer
            assert took[-1] < STALLED_S, (answer, took)
    with opened() as (stub, s):
        stub.objects["pre/a"] = b"abcdef"
        stub.rule = times(2, lambda q: (200, {}, b"abcdef"))  # who passes over ranges
        assert s("get", READ, "a", 2, 3) == "ok cde"
        assert s("get", READ, "a", 4, 9) == "ok ef"
    for text in (b"", b"<ListBucketResult><Contents><Key>", b"<a/>",
                 b"<!DOCTYPE a [<!ENTITY x 'y'>]><ListBucketResult/>",
                 b"<ListBucketResult><Contents><Key>elsewhere</Key></Contents></ListBucketResult>"):
        with opened() as (stub, s):
            stub.objects["pre/a"] = b"abc"
            stub.rule = times(1, (200, {}, text))
            assert s("list", READ, "-", "-", 3) == "ok a", text


def a_clock_that_is_wrong():
    for ahead in (7200, -7200):
        with s3stub.Stub() as stub:
            stub.clock_s = ahead
            with Store(stub) as s:
                stub.seen.clear()
                assert s("put", COMMIT, "a", "abc") == "ok"
                assert len(stub.seen) == 1
                assert s.text().count("clock") == 1


def regions_and_redirects():
    with s3stub.Stub(region="eu-west-9") as stub, Store(stub) as s:
        stub.seen.clear()
        assert s("put", COMMIT, "a", "abc") == "ok" and len(stub.seen) == 1
        stub.region = "eu-west-8"
        moved = s3stub.error(301, "PermanentRedirect", headers={"x-amz-bucket-region": "eu-west-8"})
        stub.rule = times(1, moved)
        assert s("head", READ, "a") == "ok 3" and len(stub.seen) == 3
    with s3stub.Stub() as other, opened() as (stub, s):
        other.objects["pre/a"] = b"abc"
        to = {"location": f"{other.endpoint}/bucket/pre/a"}
        stub.rule = times(1, s3stub.error(307, "TemporaryRedirect", headers=to))
        assert s("get", READ, "a", 0, 3) == "ok abc"
        assert s("get", READ, "a", 0, 3) == "ENOENT"
        stub.rule = lambda q: s3stub.error(301, "PermanentRedirect", headers=to)
        assert s("get", READ, "a", 0, 3) == "ok abc"
        stub.seen.clear()
        assert s("put", COMMIT, "b", "body-of-a-put") == "ok"
        assert not stub.seen and other.objects["pre/b"] == b"body-of-a-put"


def dead_connections_are_replaced_silently():
    with opened() as (stub, s):
        stub.close_after_answer = True
        for i in range(100):
            answers = s("put", COMMIT, f"k{i}", "abc"), s("get", READ, f"k{i}", 0, 9)
            assert answers == ("ok", "ok abc"), (i, answers, s.text())
        assert s.text() == ""


def stalled_answers_are_given_up():
    with s3stub.Stub() as stub, Store(stub, timeout_ms=2000) as s:
        stub.objects["pre/a"] = b"abc"
        release = threading.Event()
        stub.rule = times(1, lambda q: release.wait(60) and None)
        assert s("get", READ, "a", 0, 3) == "ok abc"
        assert len([q for q in stub.seen if q.path.endswith("/a")]) == 2
        release.set()


def slow_answers_are_waited_for():
    """By those who give more time than an attempt has otherwise. Runs beside the others."""
    with s3stub.Stub() as stub, Store(stub, timeout_ms=60000) as s:
        stub.rule = times(1, lambda q: time.sleep(STALLED_S + 2))
        stub.seen.clear()
        assert s("put", COMMIT, "a", "abc") == "ok", s.text()
        assert len(stub.seen) == 1


def styles_and_classes():
    with s3stub.Stub() as stub:
        endpoint = f"http://localhost:{stub.port}"
        with Store(stub, endpoint=endpoint, virtual_hosted="true", storage_class="COLD") as s:
            assert s("put", COMMIT, "a", "abc") == "ok"
            assert s("list", READ, "-", "-", 9) == "ok a"
            assert stub.seen[-2].headers["host"] == f"bucket.localhost:{stub.port}"
            assert stub.seen[-2].headers["x-amz-storage-class"] == "COLD"


def refused(stub, words, **options):
    s = Store(stub, **options)
    result, text = s.end()
    assert result != "ok" and words in text, (result, text)


def is_tried_out_first():
    with s3stub.Stub() as stub:
        with Store(stub) as s:
            assert s.text() == ""
        assert not stub.objects and len(stub.seen) == 8, [(q.method, q.path) for q in stub.seen]
        stub.versioning = stub.lifecycle = True
        with Store(stub) as s:
            assert "keeps versions" in s.text() and "life-cycle" in s.text()
        stub.honours_absence = False
        refused(stub, "does not honour put-if-absent")
        assert not stub.objects
        with Store(stub, unsafe_single_writer="true") as s:
            assert "unsafe-single-writer" in s.text()
            assert s("put", COMMIT, "a", "x") == "ok" and s("put", COMMIT, "a", "y") == "EEXIST"
        stub.rule = lambda q: (s3stub.error(501, "NotImplemented")  # who knows no such condition
                               if "if-none-match" in q.headers else None)
        refused(stub, 'put-if-absent (If-None-Match: *), but answers "501 NotImplemented"')
        refused(stub, 'conditional_put = "unsafe-single-writer"')
        with Store(stub, unsafe_single_writer="true") as s:
            assert s("put", COMMIT, "a", "x") == "EEXIST" and s("put", COMMIT, "b", "y") == "ok"
        stub.rule = lambda q: s3stub.error(501, "NotImplemented") if q.method == "PUT" else None
        refused(stub, "objects cannot be created (501 NotImplemented)")
        assert sorted(stub.objects) == ["pre/a", "pre/b"]
    with s3stub.Stub() as stub:
        stub.rule = lambda q: (s3stub.error(403, "AccessDenied")
                               if q.method == "GET" and q.path.count("/") > 1
                               and stub.key_of(q) not in stub.objects else None)
        refused(stub, "s3:ListBucket")
    with s3stub.Stub() as stub:
        real = stub.of_bucket
        stub.of_bucket = lambda q, query: (
            (200, {}, b"<ListBucketResult/>") if "list-type" in query else real(q, query))
        refused(stub, "list")
    with s3stub.Stub() as stub:
        refused(stub, "no such bucket", url="s3://other/pre")
        refused(stub, "SignatureDoesNotMatch", secret_access_key="wrong", access_key_id=s3stub.KEY,
                keys=False)
        refused(stub, "nor an instance service", keys=False)
        refused(stub, "allow_http", allow_http="false")
    with s3stub.Stub() as stub:
        stub.objects["pre/probe/0000000001-00"] = b""  # of 1970
        stub.objects["pre/probe/00ffffffff-00"] = b""  # of another opener, now
        with Store(stub) as s:
            assert list(stub.objects) == ["pre/probe/00ffffffff-00"]
            assert s("list", READ, "-", "-", 9) == "ok"


def make_certificate(name):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key", "-out",
                    f"{name}.pem", "-days", "2", "-subj", f"/CN={name}", "-addext",
                    "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    return f"{name}.pem", f"{name}.key"


def encrypted_connections():
    mine, another = make_certificate("mine"), make_certificate("another")
    with s3stub.Stub(certificate=mine) as stub:
        with Store(stub, allow_http="false", ca_bundle=mine[0]) as s:
            assert s("put", COMMIT, "a", "abc") == "ok" and s("get", READ, "a", 0, 9) == "ok abc"
            stub.rule = times(1, s3stub.error(307, "TemporaryRedirect",
                                              headers={"location": "http://127.0.0.1:1/x"}))
            assert s("put", COMMIT, "b", "abc") == "EIO"  # not from there to plain text
        stub.seen.clear()
        refused(stub, "certificate", ca_bundle=another[0])
        refused(stub, "nowhere.pem", ca_bundle="nowhere.pem")
        assert not stub.seen


class Metadata:
    """The services of EC2 and ECS."""

    def __init__(self, stub):
        self.stub, self.fetched, self.life_s, self.down = stub, 0, 3600, False

    def document(self):
        self.fetched += 1
        key, token = f"ASIA{self.fetched}", f"token+{self.fetched}/="
        self.stub.keys = {key: (s3stub.SECRET, token)}  # the older ones are refused from now on
        ends = datetime.datetime.utcnow() + datetime.timedelta(seconds=self.life_s)
        return json.dumps({"Code": "Success", "AccessKeyId": key, "Token": token,
                           "SecretAccessKey": s3stub.SECRET,
                           "Expiration": ends.strftime("%Y-%m-%dT%H:%M:%SZ")}).encode()

    def __enter__(self):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *words):
                pass

            def handle_any(self):
                status, body = outer.answer(self.command, self.path, self.headers)
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            do_GET = do_PUT = handle_any

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, method, path, headers):
        roles = "/latest/meta-data/iam/security-credentials/"
        if self.down:
            return 500, b""
        if path == "/ecs":
            good = headers["authorization"] == "Bearer of bad news"
            return (200, self.document()) if good else (401, b"")
        if method == "PUT" and path == "/latest/api/token":
            return 200, b"imds-token"
        if headers["x-aws-ec2-metadata-token"] != "imds-token":
            return 401, b""
        if path == roles:
            return 200, b"my-role\n"
        return (200, self.document()) if path == roles + "my-role" else (404, b"")


def credentials_of_services():
    with s3stub.Stub() as stub, Metadata(stub) as m:
        env = {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": m.url}
        with Store(stub, env=env, keys=False) as s:
            assert m.fetched == 1 and s("put", COMMIT, "a", "x") == "ok"
            assert s("outlast") == "ok"
            stub.keys = {}  # they expire early: fetched anew, and the request goes through
            assert s("get", READ, "a", 0, 1) == "ok x" and m.fetched == 2
        m.life_s = 12  # fetched anew before they end, without any request
        with Store(stub, env=env, keys=False) as s:
            before = m.fetched
            zt.wait_for(lambda: m.fetched > before)
            assert s("outlast") == "ok"  # the answer may be on its way, and the old ones refused
            assert s("get", READ, "a", 0, 1) == "ok x"
        with open("token", "w", encoding="utf-8") as f:
            f.write("Bearer of bad news\n")
        m.life_s = 3600
        env = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": m.url + "/ecs",
               "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": os.path.abspath("token")}
        with Store(stub, env=env, keys=False) as s:
            assert s("get", READ, "a", 0, 1) == "ok x"


def credentials_of_profiles():
    os.makedirs(".aws", exist_ok=True)
    with open(".aws/credentials", "w", encoding="utf-8") as f:
        f.write(f"[default]\naws_access_key_id = no\naws_secret_access_key = no\n[work]\n"
                f"aws_access_key_id={s3stub.KEY}\naws_secret_access_key = {s3stub.SECRET}\n")
    with open(".aws/config", "w", encoding="utf-8") as f:
        f.write("[profile work]\nregion = xx-north-1\n")
    with s3stub.Stub(region="xx-north-1") as stub:
        env = {"HOME": os.getcwd(), "AWS_PROFILE": "work"}
        with Store(stub, env=env, keys=False) as s:
            assert s("put", COMMIT, "a", "x") == "ok"
            assert len(stub.seen) == 9  # the region is known from the start
            with open(".aws/credentials", "w", encoding="utf-8") as f:
                f.write("[work]\naws_access_key_id=B\naws_secret_access_key=C\n")
            stub.keys = {"B": ("C", None)}
            assert s("outlast") == "ok" and s("get", READ, "a", 0, 1) == "ok x"
        refused(stub, 'no file has a profile "none"', env={"HOME": os.getcwd()}, keys=False,
                profile="none")
        env = {"AWS_ACCESS_KEY_ID": "B", "AWS_SECRET_ACCESS_KEY": "C", "AWS_REGION": "xx-north-1"}
        with Store(stub, env=env, keys=False) as s:
            assert s("get", READ, "a", 0, 1) == "ok x"


def an_outage_is_no_refusal():
    """A store that fails while it is tried out is not told to be one that knows no condition. Runs
    beside the others."""
    with s3stub.Stub() as stub:
        stub.rule = lambda q: (s3stub.error(500, "InternalError")
                               if "if-none-match" in q.headers else None)
        refused(stub, "objects cannot be created (500 InternalError)")


TESTS = (
    does_what_a_store_does,
    repeats_what_passes,
    a_commit_is_told_at_once,
    denied_is_not_absent,
    a_full_store_is_away,
    a_bucket_that_is_gone,
    notices_spoilt_answers,
    a_clock_that_is_wrong,
    regions_and_redirects,
    dead_connections_are_replaced_silently,
    stalled_answers_are_given_up,
    styles_and_classes,
    is_tried_out_first,
    encrypted_connections,
    credentials_of_services,
    credentials_of_profiles,
)
with concurrent.futures.ThreadPoolExecutor() as beside:
    slow = [beside.submit(t) for t in (slow_answers_are_waited_for, an_outage_is_no_refusal)]
    for test in TESTS:
        begin = time.monotonic()
        test()
        print(f"{test.__name__}: {time.monotonic() - begin:.1f} s")
    for done in slow:
        done.result()
