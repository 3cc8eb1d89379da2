# SPDX-License-Identifier: Apache-2.0
"""Where a test's volume lies and how it is kept: said by the environment, so that one test runs on
every kind. Both zt.py and lib.sh write their configurations with it.

    TEST_STORE        file (a folder of the test's) or s3
    TEST_COMPRESSION  none, lz4, zstd-3 ...
    TEST_ENCRYPTION   off or on
    TEST_S3           the shared S3 server of this run; without it a test starts one of its own

A store option as of a test URL ("delay_ms=20&seed=7") goes with either kind.
"""
import atexit
import os
import re
import socket
import sys
import urllib.parse

import rgw
import s3

TMPDIR = os.environ["TMPDIR"]
KIND = os.environ.get("TEST_STORE", "file")
COMPRESSION = os.environ.get("TEST_COMPRESSION", "lz4")
ENCRYPTED = os.environ.get("TEST_ENCRYPTION", "off") == "on"
CLEAR = 'mode = "none"'
PASSWORD = "only for tests: Ahsh3oob"
# What this test's objects begin with; whoever runs the test clears it away.
RUN = os.environ.get("ZEROFS_TEST_RUN", os.path.basename(TMPDIR))

own = []


def reachable(endpoint):
    parts = urllib.parse.urlsplit(endpoint)
    try:
        socket.create_connection((parts.hostname, parts.port), 5).close()
        return True
    except OSError:
        return False


def endpoint():
    """Of the shared server, or of one that ends with this process."""
    shared = os.environ.get("TEST_S3")
    if shared and reachable(shared):
        return shared
    if not own:
        gateway = rgw.Gateway(os.path.join(TMPDIR, "rgw"))
        own.append(gateway.start())
        atexit.register(gateway.stop)
    return own[0].endpoint


def url(name, options="", kind=None):
    """Of the store of this name; the same name gives the same store."""
    if (kind or KIND) == "s3":
        text = f"s3://{rgw.BUCKET}/{RUN}/{name}"
    else:
        folder = os.path.join(TMPDIR, name, "store")
        os.makedirs(folder, exist_ok=True)
        text = "file://" + folder
    return text + ("?" + options if options else "")


def names(store_url):
    """Of all objects of a store."""
    parts = urllib.parse.urlsplit(store_url)
    if parts.scheme == "s3":
        prefix = parts.path[1:] + "/"
        return sorted(key[len(prefix):] for key in bucket().list(prefix))
    return sorted(os.path.relpath(os.path.join(folder, name), parts.path)
                  for folder, _, files in os.walk(parts.path) for name in files)


def read(store_url, name):
    """An object as it lies there."""
    parts = urllib.parse.urlsplit(store_url)
    if parts.scheme == "s3":
        return bucket().get(parts.path[1:] + "/" + name)
    with open(os.path.join(parts.path, name), "rb") as f:
        return f.read()


def write(store_url, name, data):
    """An object is replaced."""
    parts = urllib.parse.urlsplit(store_url)
    if parts.scheme == "s3":
        bucket().put(parts.path[1:] + "/" + name, data)
        return
    path = os.path.join(parts.path, name)
    os.chmod(path, 0o600)
    with open(path, "wb") as f:
        f.write(data)


def bucket():
    return s3.Bucket(endpoint(), rgw.BUCKET)


def aws(at=None):
    """The section that an s3:// URL needs."""
    return f"""\
[aws]
endpoint = "{at or endpoint()}"
access_key_id = "{s3.ACCESS_KEY}"
secret_access_key = "{s3.SECRET_KEY}"
region = "{s3.REGION}"
allow_http = true
"""


def config(store_url, at=None):
    """The sections of a configuration that tell about the store; at: another endpoint."""
    encryption = f'password = "{PASSWORD}"' if ENCRYPTED else CLEAR
    return f"""\
[storage]
url = "{store_url}"
{aws(at) if store_url.startswith("s3:") else ""}[filesystem]
compression = "{COMPRESSION}"
[encryption]
{encryption}
"""


def sections(text):
    """[[header, lines]]; what comes before the first header has None."""
    found = [[None, []]]
    for line in text.splitlines():
        if re.match(r"\[.*\]\s*$", line):
            found.append([line.strip(), []])
        else:
            found[-1][1].append(line)
    return found


def merged(text, more):
    """The configuration with what the other says as well; the other's settings win."""
    have = sections(text)
    for header, lines in sections(more):
        mine = next((part for part in have if part[0] == header), None)
        if mine is None:
            have.append([header, lines])
            continue
        keys = {line.split("=")[0].strip() for line in lines if "=" in line}
        kept = [line for line in mine[1] if line.split("=")[0].strip() not in keys]
        # There is one way to say how a volume is encrypted.
        mine[1] = lines if header == "[encryption]" else kept + lines
    return "\n".join(line for header, lines in have for line in [header or "", *lines]) + "\n"


def serve_shell(folder):
    """For lib.sh: `stores.py serve FOLDER` leaves the address there, and ends when stdin does."""
    gateway = rgw.Gateway(os.path.join(folder, "rgw")).start()
    path = os.path.join(folder, "s3.endpoint")
    with open(path + ".new", "w", encoding="ascii") as f:
        f.write(gateway.endpoint)
    os.rename(path + ".new", path)
    sys.stdin.read()
    gateway.stop()


def main():
    """stores.py url NAME | reachable | config URL | merged FILE MORE | serve FOLDER"""
    words = sys.argv[1:]
    if words[0] == "url":
        print(url(words[1]))
    elif words[0] == "config":
        print(config(words[1]), end="")
    elif words[0] == "reachable":
        sys.exit(not reachable(os.environ.get("TEST_S3", "http://127.0.0.1:1")))
    elif words[0] == "merged":
        with open(words[1], encoding="utf-8") as f:
            print(merged(f.read(), words[2]), end="")
    elif words[0] == "serve":
        serve_shell(words[1])


if __name__ == "__main__":
    main()
