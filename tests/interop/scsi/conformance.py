#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# limit: 420
"""The conformance suite of libiscsi (iscsi-test-cu) against the real program, one process a test.

No test may fail, and none may be skipped unless SKIPS says why: iscsi-test-cu counts a skipped
test as passed. An entry of SKIPS that is not needed any more fails too.

    conformance.py [PATTERN...]       only tests whose name holds a PATTERN
"""
import collections
import re
import subprocess
import sys

import zt

IQN = "iqn.2024-01.net.zerofs:conformance"

# What is skipped, as "Suite" or "Suite.Test", the message, and why that is as it should be.
SKIPS = {
    "ExtendedCopy": ("is not implemented", "EXTENDED COPY is not offered yet"),
    "ReceiveCopyResults": ("is not implemented", "goes with EXTENDED COPY"),
    "PreventAllow": ("not removable", "the medium is not removable"),
    "StartStopUnit.Simple": ("not removable", "ejects the medium, which is not removable"),
    "PrinReadKeys": ("PERSISTENT RESERVE|PROUT", "persistent reservations are not offered yet"),
    "PrinServiceactionRange": ("PERSISTENT RESERVE", "persistent reservations"),
    "PrinReportCapabilities": ("PROUT", "persistent reservations"),
    "ProutRegister": ("PROUT", "persistent reservations"),
    "ProutReserve": ("PROUT", "persistent reservations"),
    "ProutClear": ("PROUT", "persistent reservations"),
    "ProutPreempt": ("PROUT", "persistent reservations"),
    "ReadOnly": ("not write-protected", "wants a unit that is write-protected from the start"),
    "Sanitize": ("--allow-sanitize", "SANITIZE is not offered yet"),
    "WriteAtomic16": ("is not implemented", "WRITE ATOMIC is not offered yet"),
    "WriteSame10.ZeroBlocks": ("0-blocks", "VPD page B0h says WSNZ: 0 blocks are refused"),
    "WriteSame16.ZeroBlocks": ("0-blocks", "VPD page B0h says WSNZ: 0 blocks are refused"),
}

# Tests whose own fault it is that they fail here: the message, and why. They must fail in just
# that way.
FAULTY = {
    "GetLBAStatus.UnmapSingle": (
        "lba offset in first descriptor",
        "with 8 logical blocks in a physical one its second half asks for the status from LBA "
        "i + 1 on and expects a descriptor that begins at i + 8"),
}

# Suites that only make sense as a whole, in one process.
WHOLE = {
    "iSCSITMF": "its LUN reset test looks at a variable that its abort test has set",
}

LIMIT_S = 60


def list_tests():
    out = subprocess.run(["iscsi-test-cu", "--list"], text=True, capture_output=True,
                         check=True).stdout
    tests = [line[4:] for line in out.split() if re.fullmatch(r"ALL\.[^.]+\.[^.]+", line)]
    assert len(tests) > 200, f"iscsi-test-cu lists only {len(tests)} tests"
    wanted = sys.argv[1:]
    return [t for t in tests if not wanted or any(w in t for w in wanted)]


def jobs_of(tests):
    """What to run together: (pattern, tests)."""
    jobs = collections.OrderedDict()
    for test in tests:
        suite = test.split(".")[0]
        jobs.setdefault(suite if suite in WHOLE else test, []).append(test)
    return jobs.items()


def run_job(pattern, urls):
    """Output by test; what is said before and after the tests is the tool's own cleaning up."""
    try:
        done = subprocess.run(["iscsi-test-cu", "--dataloss", "--test", "ALL." + pattern, *urls],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace",
                              timeout=LIMIT_S, check=False)
        out = done.stdout
    except subprocess.TimeoutExpired as late:
        out = (late.stdout or b"").decode(errors="replace")
    suite = pattern.split(".")[0]
    parts = re.findall(r"^  Test: (\S+) \.\.\.(.*?)(passed|FAILED)(?=$|    \[|\n)(.*?)"
                       r"(?=^  Test: |^Run Summary|\Z)", out, re.M | re.S)
    return {f"{suite}.{name}": (said + (after if verdict == "FAILED" else ""), verdict)
            for name, said, verdict, after in parts}, out


def reason_for(table, test):
    return table.get(test) or table.get(test.split(".")[0])


def judge(test, said, verdict):
    """(kind, text): kind is passed, skipped, faulty or FAILED."""
    faulty = FAULTY.get(test)
    if verdict == "FAILED":
        if faulty and faulty[0] in said:
            return "faulty", faulty[1]
        return "FAILED", said.strip()
    if faulty:
        return "FAILED", "it is listed as faulty, and passed"
    skips = re.findall(r"\[SKIPPED\]\s*(.*)", said)
    listed = reason_for(SKIPS, test)
    if skips and not listed:
        return "FAILED", "skipped for no listed reason: " + skips[0]
    if skips:
        if not re.search(listed[0], skips[0]):
            return "FAILED", "skipped for another reason than the listed one: " + skips[0]
        return "skipped", listed[1]
    if listed:
        return "FAILED", "its skip is listed, and it was not skipped"
    return "passed", ""


def run_all(server):
    url = f"iscsi://127.0.0.1:{server.iscsi_port}/{IQN}/0"
    counts = collections.Counter()
    for pattern, tests in jobs_of(list_tests()):
        urls = [url, url] if pattern.startswith("MultipathIO") else [url]
        results, out = run_job(pattern, urls)
        for test in tests:
            if test in results:
                kind, text = judge(test, *results[test])
            else:
                kind, text = "FAILED", "it did not come to its end:\n" + out[-2000:]
            counts[kind] += 1
            if kind != "passed":
                print(f"{kind:8} {test}: {text}", flush=True)
    print(", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())))
    assert counts["FAILED"] == 0
    assert counts["passed"] > 0 or sys.argv[1:]


def main():
    with zt.Server() as server:
        server.cli("iscsi", "create-target", "--iqn", IQN, "--lun", "0", "--size", "256M")
        server.start()
        run_all(server)
        server.stop()


main()
