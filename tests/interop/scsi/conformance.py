#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# long
# limit: 420
"""The conformance suite of libiscsi (iscsi-test-cu) against the real program: every test in a
process of its own, with --dataloss, --allow-sanitize and two URLs, on LUNs of each sector format
and on one that is write-protected and one that is removable. What asks for a LUN made otherwise
has one, of each format (MADE_FOR).

No test may fail, but for those that FAULTY lists, and none may be skipped, nor a part of one:
iscsi-test-cu counts a skipped test as passed. The volume is encrypted, for else there is no
CRYPTOGRAPHIC ERASE. The table at the end counts by suite and format.

    conformance.py [PATTERN...]       only tests whose name holds a PATTERN
"""
import collections
import concurrent.futures
import os
import re
import subprocess
import sys
import time

os.environ["TEST_ENCRYPTION"] = "on"
import stores  # noqa: E402
import zt  # noqa: E402

IQN = "iqn.2024-01.net.zerofs:conformance"

# The LUNs, each of a target of its own for the sake of resets: how they are made. Their tests run
# side by side. WriteSame16.Unmap wants to write 65536 blocks at once, if the LUN has as many; with
# sectors of 4 KiB that is more than a command may transfer.
UNITS = {
    "512e": ("256M",),
    "512n": ("256M", "--physical", "512"),
    "4Kn": ("192M", "--sector", "4096"),
    "read-only": ("64M", "--read-only", "on"),
    "removable": ("64M", "--removable"),
}
SPECIAL = {"read-only", "removable"}  # nothing but what ONLY says

# Further LUNs of each format: the option with which they are made, and the tests that run there
# instead. Sanitize.Reset wants an OVERWRITE of zeroes that takes longer than its own four seconds,
# in which it tries all it can to stop it: that LUN's store answers slowly.
VARIANTS = {
    "to-end": ("--write-same-to-end",),
    "slow": (),
}
MADE_FOR = {
    "WriteSame10.ZeroBlocks": "to-end",  # VPD page B0h says WSNZ = 0
    "WriteSame16.ZeroBlocks": "to-end",
    "Sanitize.Reset": "slow",
}
SLOWNESS = "delay_ms=700"
SLOW_START_S = 300

# Suites and tests that run on these LUNs alone; all others run on every LUN that can be written.
ONLY = {
    "ReadOnly": {"read-only"},
    "NoMedia": {"removable"},
    "PreventAllow": {"removable"},
    "StartStopUnit.Simple": {"removable"},
    # They want physical blocks of several logical ones.
    "CompareAndWrite.InvalidDataOutSize": {"512e"},
    "WriteSame10.InvalidDataOutSize": {"512e"},
    "WriteSame10.UnmapUnaligned": {"512e"},
    "WriteSame16.InvalidDataOutSize": {"512e"},
    "WriteSame16.UnmapUnaligned": {"512e"},
    # They do not depend on sectors.
    "iSCSITMF": {"512e"},
    "iSCSIcmdsn": {"512e"},
    "iSCSIdatasn": {"512e"},
}

# Tests whose own fault it is that they fail here: the message, and why. They must fail in just
# that way. (WriteSame10.UnmapUntilEnd would be another one where WSNZ is 0: it unmaps with a block
# of 0xff and expects zeroes, while with LBPRZ = 1 such a block is to be written.)
FAULTY = {
    ("GetLBAStatus.UnmapSingle", "512e"): (
        "lba offset in first descriptor",
        "with 8 logical blocks in a physical one its second half asks for the status from LBA "
        "i + 1 on and expects a first descriptor that begins at i + 8; by the standard (LBA status "
        "descriptor relationships) it shall contain the LBA that was asked for"),
}

# Suites that only make sense as a whole, in one process.
WHOLE = {
    "iSCSITMF": "its LUN reset test looks at a variable that its abort test has set",
}

LIMIT_S = 60
RESET_LIMIT_S = 240  # Sanitize.Reset sleeps for a minute


def list_tests():
    out = subprocess.run(["iscsi-test-cu", "--list"], text=True, capture_output=True,
                         check=True).stdout
    tests = [line[4:] for line in out.split() if re.fullmatch(r"ALL\.[^.]+\.[^.]+", line)]
    assert len(tests) > 200, f"iscsi-test-cu lists only {len(tests)} tests"
    known = {test.split(".")[0] for test in tests} | set(tests)
    for table in (ONLY, WHOLE, MADE_FOR, {test for test, _ in FAULTY}):
        assert set(table) <= known, set(table) - known
    wanted = sys.argv[1:]
    return [t for t in tests if not wanted or any(w in t for w in wanted)]


def jobs_of(tests, unit, variant):
    """What to run together on that LUN: (pattern, tests)."""
    jobs = collections.OrderedDict()
    for test in tests:
        suite = test.split(".")[0]
        if (MADE_FOR.get(test) == variant and
                unit in (reason_for(ONLY, test) or UNITS.keys() - SPECIAL)):
            jobs.setdefault(suite if suite in WHOLE else test, []).append(test)
    return jobs.items()


def run_job(pattern, url):
    """Output by test; what is said before and after the tests is the tool's own cleaning up."""
    try:
        done = subprocess.run(["iscsi-test-cu", "--dataloss", "--allow-sanitize",
                               "--test", "ALL." + pattern, url, url],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace",
                              timeout=RESET_LIMIT_S if pattern == "Sanitize.Reset" else LIMIT_S,
                              check=False)
        out = done.stdout
    except subprocess.TimeoutExpired as late:
        out = (late.stdout or b"").decode(errors="replace") + "\n(timed out)"
    suite = pattern.split(".")[0]
    parts = re.findall(r"^  Test: (\S+) \.\.\.(.*?)(passed|FAILED)(?=$|    \[|\n)(.*?)"
                       r"(?=^  Test: |^Run Summary|\Z)", out, re.M | re.S)
    return {f"{suite}.{name}": (said + (after if verdict == "FAILED" else ""), verdict)
            for name, said, verdict, after in parts}, out


def reason_for(table, test):
    return table.get(test) or table.get(test.split(".")[0])


def judge(test, unit, said, verdict):
    """(kind, text): kind is passed, faulty or FAILED."""
    faulty = FAULTY.get((test, unit))
    if verdict == "FAILED":
        if faulty and faulty[0] in said:
            return "faulty", faulty[1]
        return "FAILED", said.strip()
    if faulty:
        return "FAILED", "it is listed as faulty, and passed"
    skips = re.findall(r"\[SKIPPED\]\s*(.*)", said)
    return ("FAILED", "skipped: " + skips[0]) if skips else ("passed", "")


def iqn_of(unit, variant):
    return ".".join(filter(None, (IQN, unit.lower(), variant)))


def run_unit(server, unit, variant, tests):
    """(test, unit, kind, text, seconds) of each."""
    rows = []
    zt.wait_for(lambda: server.process and "ready" in server.log_text(), SLOW_START_S)
    url = f"iscsi://127.0.0.1:{server.iscsi_port}/{iqn_of(unit, variant)}/0"
    for pattern, names in jobs_of(tests, unit, variant):
        begun = time.monotonic()
        results, out = run_job(pattern, url)
        seconds = time.monotonic() - begun
        for test in names:
            if test in results:
                kind, text = judge(test, unit, *results[test])
            else:
                kind, text = "FAILED", "it did not come to its end:\n" + out[-2000:]
            rows.append((test, unit, kind, text, seconds / len(names)))
    return rows


def print_table(rows):
    """One line a suite, one column a LUN: passed/tests."""
    cells = collections.defaultdict(collections.Counter)
    for test, unit, kind, _, _ in rows:
        cells[test.split(".")[0], unit][kind] += 1
    print(f"{'':24}" + "".join(f"{unit:>12}" for unit in UNITS))
    for suite in dict.fromkeys(test.split(".")[0] for test, *_ in rows):
        line = ""
        for unit in UNITS:
            kinds = cells[suite, unit]
            line += f"{kinds['passed']}/{kinds.total()}".rjust(12) if kinds else f"{'':12}"
        print(f"{suite:24}" + line)
    for unit in UNITS:
        kinds = collections.Counter(kind for _, u, kind, _, _ in rows if u == unit)
        print(f"{unit}: " + ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())))


def run_all(servers):
    tests = list_tests()
    todo = [(variant, unit) for variant in ("slow", "to-end", None) for unit in UNITS
            if any(jobs_of(tests, unit, variant))]
    with concurrent.futures.ThreadPoolExecutor(len(todo) + 1) as pool:
        started = pool.submit(servers[1].start, SLOW_START_S)
        runs = [pool.submit(run_unit, servers[variant == "slow"], unit, variant, tests)
                for variant, unit in todo]
        rows = [row for run in reversed(runs) for row in run.result()]
        started.result()
    for kind, test, text in dict.fromkeys((k, t, x) for t, _, k, x, _ in rows if k != "passed"):
        units = [u for t, u, k, x, _ in rows if (k, t, x) == (kind, test, text)]
        print(f"{kind:8} {test} ({', '.join(units)}): {text}")
    print_table(rows)
    assert not any(kind == "FAILED" for _, _, kind, _, _ in rows)
    assert any(kind == "passed" for _, _, kind, _, _ in rows) or sys.argv[1:]


def main():
    with zt.Server() as server, zt.Server("slow") as slow:
        for unit, options in UNITS.items():
            for variant in [None, *VARIANTS] if unit not in SPECIAL else [None]:
                (slow if variant == "slow" else server).cli(
                    "iscsi", "create-target", iqn_of(unit, variant), "0", *options,
                    *VARIANTS.get(variant, ()))
        slow.configure(f'[storage]\nurl = "{stores.url("slow", SLOWNESS)}"')
        server.start()
        run_all((server, slow))
        server.stop()
        slow.kill()


main()
