#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# store: s3
"""Credentials from a container's metadata service that expire under load: others are fetched in
time, and when the store refuses the old ones earlier than announced, then too. While the service is
down and the credentials are refused, everything waits and no client sees an error."""
import datetime
import http.server
import json
import os
import random
import threading

import proxy
import rgw
import s3
import stores
import zt
from history import BLOCK, History
from load import Load, NbdPeer, image_of

SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))
BLOCKS = 1024
KEYS = [(s3.ACCESS_KEY, s3.SECRET_KEY), ("zerofssecond", "anothersecret"),
        ("zerofsthird", "yetanothersecret")]


class Service(http.server.ThreadingHTTPServer):
    """Tells the credentials of the day, and counts who asks."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Teller)
        self.current, self.lives_s, self.asked, self.is_down = 0, 3600, 0, False
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/credentials"

    def text(self):
        ends = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(
            seconds=self.lives_s)
        key, secret = KEYS[self.current]
        return json.dumps({"AccessKeyId": key, "SecretAccessKey": secret,
                           "Expiration": ends.strftime("%Y-%m-%dT%H:%M:%SZ")}).encode()


class Teller(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked += 1
        body = b"" if self.server.is_down else self.server.text()
        self.send_response(503 if self.server.is_down else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


def refused(*numbers):
    """Rules of a store to which these keys have expired."""
    return [{"do": "status", "status": 403, "code": "ExpiredToken",
             "head": f"Credential={KEYS[n][0]}/"} for n in numbers]


def work(load, seconds):
    load.run(seconds)
    load.finish()


def main():
    print("seed", SEED, flush=True)
    service, history = Service(), History(BLOCKS)
    os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = service.url
    with rgw.Gateway(os.path.join(zt.TMPDIR, "rgw")) as g, proxy.Proxy(g.endpoint, SEED) as p:
        for key, secret in KEYS[1:]:
            g.tool("radosgw-admin", "-c", g.config, "key", "create", "--uid=tests",
                   "--key-type=s3", f"--access-key={key}", f"--secret-key={secret}")
        with zt.Server(endpoint=p.endpoint) as s:
            s.configure_without("access_key_id", "secret_access_key")
            s.cli("nbd", "create", "disk", str(BLOCKS * BLOCK))
            s.start()
            load = Load(history, random.Random(SEED), [NbdPeer(s.nbd_socket, "disk")], 16)
            load.limit_s = 60
            work(load, 0.5)

            # Refused long before they should expire: the next ones are fetched.
            service.current = 1
            p.rules(*refused(0))
            asked = service.asked
            work(load, 0.5)
            assert service.asked > asked

            # Refused, and there are no others for a while.
            service.is_down = True
            p.rules(*refused(0, 1))
            load.limit_s = 3
            try:
                load.run(30)
                load.finish()
                raise AssertionError("a flush was acknowledged by a store that refuses all")
            except AssertionError as e:
                assert "no reply" in str(e), e
            load.limit_s = 60
            assert "disk" in s.cli("nbd", "list").stdout
            service.current, service.is_down = 2, False
            work(load, 0.5)
            load.close()
            s.kill()
            s.start()
            history.verify(image_of(NbdPeer(s.nbd_socket, "disk"), BLOCKS))
            s.stop()
            for _, secret in KEYS:
                assert secret not in s.log_text()


main()
