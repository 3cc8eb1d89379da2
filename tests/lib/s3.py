# SPDX-License-Identifier: Apache-2.0
"""As much of an S3 client as tests need to look at a bucket from outside, and to spoil it.

    bucket = s3.Bucket("http://127.0.0.1:7480", "name")
    bucket.make(); bucket.put(key, data); bucket.get(key); bucket.list(prefix); bucket.delete(key)
"""
import datetime
import hashlib
import hmac
import http.client
import re
import urllib.parse
from xml.sax.saxutils import unescape

ACCESS_KEY, SECRET_KEY, REGION = "zerofstests", "notmuchofasecret", "us-east-1"
TRIES = 3


class Refused(Exception):
    """A status that was not expected."""

    def __init__(self, what, status, body):
        super().__init__(f"{what}: {status} {body[:300]!r}")
        self.status = status


def digest(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signed(method, host, path, query, payload):
    """The headers of a request as Signature Version 4 wants them; path and query are encoded."""
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    body_hash = hashlib.sha256(payload).hexdigest()
    headers = {"host": host, "x-amz-content-sha256": body_hash, "x-amz-date": now}
    names = ";".join(sorted(headers))
    canonical = "\n".join([method, path, query, *(f"{n}:{headers[n]}" for n in sorted(headers)), "",
                           names, body_hash])
    scope = f"{now[:8]}/{REGION}/s3/aws4_request"
    to_sign = "\n".join(["AWS4-HMAC-SHA256", now, scope,
                         hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + SECRET_KEY.encode()
    for word in scope.split("/"):
        key = digest(key, word)
    signature = digest(key, to_sign).hex()
    headers["authorization"] = (f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope}, "
                                f"SignedHeaders={names}, Signature={signature}")
    return headers


class Bucket:
    """One thread's view of a bucket; path style."""

    def __init__(self, endpoint, name, limit_s=60):
        self.endpoint, self.name, self.limit_s = endpoint, name, limit_s
        self.host = urllib.parse.urlsplit(endpoint).netloc
        self.connection = None

    def request(self, method, key="", params=(), payload=b"", expect=(200,)):
        path = urllib.parse.quote(f"/{self.name}/{key}" if key else f"/{self.name}")
        query = "&".join(f"{urllib.parse.quote(k, safe='')}={urllib.parse.quote(v, safe='')}"
                         for k, v in sorted(params))
        headers = signed(method, self.host, path, query, payload)
        for left in reversed(range(TRIES)):
            try:
                if not self.connection:
                    self.connection = http.client.HTTPConnection(self.host, timeout=self.limit_s)
                self.connection.request(method, path + ("?" + query if query else ""), payload,
                                        headers)
                answer = self.connection.getresponse()
                body = answer.read()
                break
            except (OSError, http.client.HTTPException):
                self.close()
                if not left:
                    raise
        if answer.status not in expect:
            raise Refused(f"{method} {path}?{query}", answer.status, body)
        return body

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def make(self):
        self.request("PUT", expect=(200, 409))

    def get(self, key):
        return self.request("GET", key)

    def put(self, key, data):
        self.request("PUT", key, payload=data)

    def delete(self, key):
        self.request("DELETE", key, expect=(200, 204, 404))

    def list(self, prefix=""):
        """{key: size} of all below the prefix."""
        found, token = {}, None
        while True:
            params = [("list-type", "2"), ("prefix", prefix)]
            if token:
                params.append(("continuation-token", token))
            text = self.request("GET", params=params).decode()
            for entry in re.findall(r"<Contents>(.*?)</Contents>", text, re.S):
                key = unescape(re.search(r"<Key>(.*?)</Key>", entry, re.S).group(1))
                found[key] = int(re.search(r"<Size>(\d+)</Size>", entry).group(1))
            more = re.search(r"<NextContinuationToken>(.*?)</NextContinuationToken>", text, re.S)
            if not more:
                return found
            token = unescape(more.group(1))

    def clear(self, prefix):
        """Deletes all below the prefix."""
        for key in self.list(prefix):
            self.delete(key)
