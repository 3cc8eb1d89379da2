# SPDX-License-Identifier: Apache-2.0
"""An S3 server that says what a real one says seldom: redirects, 409, SlowDown, a clock that is
wrong, short bodies. In memory, in threads of the test's own process; every signature is checked.

    with s3stub.Stub() as stub:
        stub.rule = lambda q: s3stub.error(503, "SlowDown") if q.method == "PUT" else None
        ... stub.endpoint, stub.seen ...

A rule gets each request before it is carried out, and answers it, or lets it pass (None). An answer
is (status, headers, body); with the header "cut", only half of the body is sent; with the status
None, the body is all there is, and nothing of it needs to be HTTP.
"""
import base64
import datetime
import hashlib
import hmac
import http.server
import ssl
import threading
import time
import urllib.parse

KEY, SECRET = "AKIDEXAMPLE", "a/very+secret=key"
SKEW_S = 900


class Request:
    def __init__(self, method, path, query, headers, body):
        self.method, self.path, self.query, self.headers, self.body = (method, path, query, headers,
                                                                       body)
        self.at = time.monotonic()


def error(status, code, message="", headers=None, more=""):
    inside = f"<Code>{code}</Code><Message>{message}</Message>{more}"
    return status, headers or {}, f"<?xml version='1.0'?><Error>{inside}</Error>".encode()


def crc_text(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return base64.b64encode((crc ^ 0xffffffff).to_bytes(4, "big")).decode()


class Stub:
    def __init__(self, bucket="bucket", region="us-east-1", certificate=None):
        self.certificate = certificate  # PEM files of the certificate and its key: TLS
        self.bucket, self.region = bucket, region
        self.keys = {KEY: (SECRET, None)}  # access key: secret, token
        self.objects, self.seen = {}, []
        self.rule = lambda request: None
        self.page = 1000
        self.honours_absence = True
        self.clock_s = 0  # ahead of the true one
        self.versioning = self.lifecycle = False
        self.close_after_answer = False
        self.lock = threading.Lock()

    def __enter__(self):
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *words):
                pass

            def date_time_string(self, timestamp=None):
                return super().date_time_string((timestamp or time.time()) + stub.clock_s)

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                path, _, query = self.path.partition("?")
                request = Request(self.command, path, query,
                                  {k.lower(): v for k, v in self.headers.items()}, body)
                with stub.lock:
                    stub.seen.append(request)
                answer = stub.rule(request)
                if answer is None:
                    with stub.lock:
                        answer = stub.check(request) or stub.carry_out(request)
                self.send(*answer)

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = handle_any

            def send(self, status, headers, body):
                if status is None:
                    self.wfile.write(body)
                    self.close_connection = True
                    return
                cut = headers.pop("cut", False)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "content-length" not in headers:
                    self.send_header("content-length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body[:len(body) // 2] if cut else body)
                if cut or stub.close_after_answer:
                    self.close_connection = True

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *words: None  # clients go when they like
        if self.certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True,
                                                     do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        scheme = "https" if self.certificate else "http"
        self.endpoint = f"{scheme}://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def sign(self, q, secret, day, region, names):
        canonical = "\n".join([q.method, q.path, q.query,
                               *(f"{n}:{q.headers.get(n, '').strip()}" for n in names), "",
                               ";".join(names), q.headers.get("x-amz-content-sha256", "")])
        scope = f"{day}/{region}/s3/aws4_request"
        to_sign = "\n".join(["AWS4-HMAC-SHA256", q.headers.get("x-amz-date", ""), scope,
                             hashlib.sha256(canonical.encode()).hexdigest()])
        key = b"AWS4" + secret.encode()
        for word in scope.split("/"):
            key = hmac.new(key, word.encode(), hashlib.sha256).digest()
        return hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()

    def check(self, q):
        """None when the request is signed as it should be."""
        words = q.headers.get("authorization", "").replace("AWS4-HMAC-SHA256 ", "")
        parts = dict(p.strip().partition("=")[::2] for p in words.split(",") if p)
        access, day, region, _, _ = (parts.get("Credential", "") + "////").split("/")[:5]
        if access not in self.keys:
            return error(403, "InvalidAccessKeyId")
        secret, token = self.keys[access]
        if token != q.headers.get("x-amz-security-token"):
            return error(400, "ExpiredToken")
        sent = datetime.datetime.strptime(q.headers["x-amz-date"], "%Y%m%dT%H%M%SZ")
        now = datetime.datetime.utcnow() + datetime.timedelta(seconds=self.clock_s)
        if abs((now - sent).total_seconds()) > SKEW_S:
            return error(403, "RequestTimeTooSkewed")
        if region != self.region:
            return error(400, "AuthorizationHeaderMalformed",
                         more=f"<Region>{self.region}</Region>")
        names = parts["SignedHeaders"].split(";")
        assert {"host", "x-amz-date", "x-amz-content-sha256"} <= set(names), names
        assert not token or "x-amz-security-token" in names
        if parts["Signature"] != self.sign(q, secret, day, region, names):
            return error(403, "SignatureDoesNotMatch")
        if hashlib.sha256(q.body).hexdigest() != q.headers["x-amz-content-sha256"]:
            return error(400, "XAmzContentSHA256Mismatch")
        return None

    def key_of(self, q):
        path = urllib.parse.unquote(q.path)
        if q.headers["host"].startswith(self.bucket + "."):
            return path[1:]
        first, _, key = path[1:].partition("/")
        return key if first == self.bucket else None

    def carry_out(self, q):
        key, query = self.key_of(q), dict(urllib.parse.parse_qsl(q.query, keep_blank_values=True))
        if key is None:
            return error(404, "NoSuchBucket")
        if not key:
            return self.of_bucket(q, query)
        if q.method == "PUT":
            return self.put(q, key)
        if q.method == "DELETE":
            self.objects.pop(key, None)
            return 204, {}, b""
        if key not in self.objects:
            return error(404, "NoSuchKey")
        return self.get(q, key)

    def put(self, q, key):
        if q.headers.get("x-amz-checksum-crc32c") != crc_text(q.body):
            return error(400, "BadDigest")
        if self.honours_absence and q.headers.get("if-none-match") == "*" and key in self.objects:
            return error(412, "PreconditionFailed")
        self.objects[key] = q.body
        return 200, {"etag": '"x"'}, b""

    def get(self, q, key):
        data = self.objects[key]
        if "range" not in q.headers:
            return 200, {}, data
        first, last = map(int, q.headers["range"].removeprefix("bytes=").split("-"))
        if first >= len(data):
            return error(416, "InvalidRange", headers={"content-range": f"bytes */{len(data)}"})
        part = data[first:last + 1]
        headers = {"content-range": f"bytes {first}-{first + len(part) - 1}/{len(data)}"}
        if len(part) == len(data):
            headers["x-amz-checksum-crc32c"] = crc_text(data)
        return 206, headers, part

    def of_bucket(self, q, query):
        if "versioning" in query:
            status = "<Status>Enabled</Status>" if self.versioning else ""
            return 200, {}, f"<VersioningConfiguration>{status}</VersioningConfiguration>".encode()
        if "lifecycle" in query:
            if not self.lifecycle:
                return error(404, "NoSuchLifecycleConfiguration")
            rule = "<Rule><ID>x</ID><Status>Enabled</Status></Rule>"
            return 200, {}, f"<LifecycleConfiguration>{rule}</LifecycleConfiguration>".encode()
        if "delete" in query:
            digest = base64.b64encode(hashlib.md5(q.body).digest()).decode()
            assert digest == q.headers["content-md5"]
            for part in q.body.decode().split("<Key>")[1:]:
                self.objects.pop(part.partition("</Key>")[0], None)
            return 200, {}, b"<?xml version='1.0'?><DeleteResult></DeleteResult>"
        names = sorted(k for k in self.objects
                       if k.startswith(query["prefix"]) and k > query.get("start-after", ""))
        page = names[:min(int(query["max-keys"]), self.page)]
        keys = "".join(f"<Contents><Key>{k}</Key><Size>1</Size></Contents>" for k in page)
        more = "true" if len(page) < len(names) else "false"
        return 200, {}, (f"<?xml version='1.0'?><ListBucketResult><IsTruncated>{more}</IsTruncated>"
                         f"{keys}</ListBucketResult>").encode()
