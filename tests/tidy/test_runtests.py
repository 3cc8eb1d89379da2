#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""tools/runtests counts as passed only what passed, and leaves nothing behind."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HEAD = "#!/bin/sh\n"
NAP = "sle" "ep 1000"

SCRIPTS = {
    "good": ("pass", 'test "$(pwd)" = "$TMPDIR" && test -z "$(ls)" && touch x && test -d "$TOP"'),
    "alone": ("pass", "# serial\nexit 0"),
    "bad": ("FAIL", "echo the reason; exit 3"),
    "skip": ("skipped", "echo not here; exit 77"),
    "slow": ("time-out", f"# limit: 1\n{NAP}"),
    # In the midst of execve() a process has no environment to be known by.
    "leaves": ("FAIL", f"setsid {NAP} & until grep -qs sleep /proc/$!/comm; do :; done; exit 0"),
    "told": ("pass", 'test "$TEST_STORE $TEST_COMPRESSION $TEST_ENCRYPTION" = "file lz4 off"'),
    "parts": ("FAIL", 'printf "pass one 1\\nFAIL two 2.5\\n" >"$TEST_PARTS"; exit 1'),
    "elsewhere": (None, "# store: s3\nexit 1"),
    "of-any": ("pass", 'test "$TEST_COMPRESSION" != zstd-3 || test "${TEST_BRIEF:-}" = 1'),
    "of-file": ("pass", "# store: file\nexit 0"),
    "of-heavy": ("pass", "# heavy\nexit 0"),
    "of-no-bytes": ("pass", "# compression: any (names only)\n# long\nexit 0"),
}


def add(path, body):
    with open(path, "w", encoding="utf-8") as f:
        f.write(HEAD + body + "\n")
    os.chmod(path, 0o755)


def variants(command, env):
    """Each in its turn and named. A script about one kind of store runs once; heavy ones are left
    to the soak in the lesser variants, which is told."""
    names = "file-lz4-clear,file-zstd-3"
    done = subprocess.run([*command[:-1], names, "of-"], text=True, env=env, capture_output=True,
                          check=True)
    said = [line.split("  (")[0].replace("interop/x/", "") for line in done.stdout.splitlines()]
    wanted = ["pass     of-any.sh [file lz4 clear]",
              "pass     of-any.sh [file zstd-3]", "pass     of-file.sh [file lz4 clear]",
              "pass     of-heavy.sh [file lz4 clear]",
              "pass     of-no-bytes.sh [file lz4 clear]",
              "to soak  of-heavy.sh [file zstd-3]", "to soak  of-no-bytes.sh [file zstd-3]"]
    assert sorted(said[:-1]) == sorted(wanted) and said[-1] == "5 passed, 0 failed", done.stdout


def cut_short(command, env):
    """Told to end, or out of time, it counts what it has: nothing is passed over."""
    with subprocess.Popen(command + ["good", "nap"], env=env, text=True,
                          stdout=subprocess.PIPE) as run:
        first = run.stdout.readline()
        run.send_signal(signal.SIGTERM)
        rest = run.stdout.read()
    said = [line.split("  (")[0] for line in rest.splitlines() if not line.startswith(" ")]
    assert first.startswith("pass     interop/x/good.sh"), first
    assert said == ["time-out interop/x/nap.sh [file lz4 clear]",
                    "no time  interop/x/nap-alone.sh [file lz4 clear]", "1 passed, 2 failed"], said
    done = subprocess.run(command + ["good"], env=dict(env, TEST_DEADLINE_S="0"), text=True,
                          capture_output=True, check=False)
    assert done.stdout.startswith("no time ") and "\n0 passed, 1 failed\n" in done.stdout


def main():
    root = tempfile.mkdtemp(prefix="runtests-test-")
    try:
        os.makedirs(os.path.join(root, "tools"))
        os.makedirs(os.path.join(root, "tmp"))
        shutil.copy(os.path.join(TOP, "tools/runtests"), os.path.join(root, "tools"))
        folder = os.path.join(root, "tests/interop/x")
        os.makedirs(folder)
        for name, (_, body) in SCRIPTS.items():
            add(os.path.join(folder, name + ".sh"), body)
        env = dict(os.environ, TMPDIR=os.path.join(root, "tmp"))
        command = [os.path.join(root, "tools/runtests"), "--build", os.path.join(root, "build"),
                   "--scripts-only", "--variants", "file-lz4-clear"]
        done = subprocess.run(command, env=env, text=True, capture_output=True, check=False)
        said = {line.split()[1]: line.split()[0] for line in done.stdout.splitlines()
                if line.split()[1:2] and line.split()[1].startswith("interop/") and "] (" in
                line.replace("  ", " ")}
        for name, (verdict, _) in SCRIPTS.items():
            assert said.get(f"interop/x/{name}.sh") == verdict, (name, verdict, done.stdout)
        assert done.stdout.endswith("\n8 passed, 6 failed\n"), done.stdout
        assert "interop/x/good.sh [file lz4 clear]" in done.stdout
        assert "| the reason" in done.stdout
        assert "pass     interop/x/parts.sh [file lz4 clear] one  (1.0 s)" in done.stdout
        assert done.returncode == 1
        variants(command, env)
        assert not os.listdir(os.path.join(root, "tmp")), "folders of tests are left"
        one = subprocess.run(command + ["good"], env=env, text=True, capture_output=True,
                             check=True)
        assert one.stdout.endswith("\n1 passed, 0 failed\n"), one.stdout
        for name, head in (("nap", ""), ("nap-alone", "# serial\n")):
            add(os.path.join(folder, name + ".sh"), head + NAP)
        cut_short(command, env)
    finally:
        shutil.rmtree(root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
