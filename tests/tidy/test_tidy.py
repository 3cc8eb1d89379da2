#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""tools/tidy catches each breach that it is meant to catch, and lets good code pass."""
import os
import shutil
import subprocess
import sys
import tempfile

TOP = os.environ.get("TOP") or os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
SPDX = "/* SPDX-License-Identifier: Apache-2.0 */\n"
HEADER = SPDX + "#pragma once\n"

GOOD = {
    "src/net/net.h": HEADER + '#include "base/attr.h"\nint net_recv(int fd, void *dst) WAITS;\n',
    "src/base/attr.h": HEADER + "#define WAITS\n",
    "src/nbd/nbd.h": HEADER + '#include "net/net.h"\nint nbd_serve(int fd) WAITS;\n',
    "src/nbd/nbd_priv.h": HEADER,
    "src/nbd/nbd.c": SPDX + '#include "nbd/nbd.h"\n#include "nbd/nbd_priv.h"\n'
    "static int step(int fd)\n{\n    struct { int a; } x = {0};\n    if (fd) {\n"
    "        return x.a;\n    }\n    return net_recv(fd, 0);\n}\n"
    'int nbd_serve(int fd)\n{\n    /* no strcpy( here */\n    puts("strcpy(a, b) {{{{{{");\n'
    "    return step(fd);\n}\n",
    "tests/unit/nbd/test_nbd.c": SPDX + '#include "nbd/nbd_priv.h"\n',
}


def function(body, head="void f(void)"):
    return SPDX + head + "\n{\n" + body + "}\n"


DEEP = "    if (a) {\n" * 5 + "    }\n" * 5

# rule, or "good" -> (what stands in the way, files that are added to GOOD)
SAMPLES = [
    ("layers", "a room below another", {"src/net/x.c": SPDX + '#include "nbd/nbd.h"\n'}),
    ("layers", "a sibling", {"src/iscsi/x.c": SPDX + '#include "nbd/nbd.h"\n'}),
    ("layers", "a header that names no room", {"src/net/x.c": SPDX + '#include "net.h"\n'}),
    ("layers", "a room nobody knows", {"src/utils/x.c": SPDX + '#include "base/attr.h"\n'}),
    ("private", "another room's private header",
     {"src/ctl/x.c": SPDX + '#include "nbd/nbd_priv.h"\n'}),
    ("private", "a private header in another room's test",
     {"tests/unit/net/x.c": SPDX + '#include "nbd/nbd_priv.h"\n'}),
    ("file", "801 lines", {"src/net/x.c": SPDX + "int a;\n" * 800}),
    ("good", "800 lines", {"src/net/x.c": SPDX + "int a;\n" * 799}),
    ("function", "71 lines", {"src/net/x.c": function("    a();\n" * 68)}),
    ("good", "70 lines", {"src/net/x.c": function("    a();\n" * 67)}),
    ("columns", "101 columns", {"src/net/x.c": SPDX + "/*" + "x" * 97 + "*/\n"}),
    ("columns", "101 columns in a script", {"scripts/x": "#!/bin/sh\n# SPDX-License-Identifier: "
                                            "Apache-2.0\n#" + "x" * 100 + "\n"}),
    ("good", "100 columns", {"src/net/x.c": SPDX + "/*" + "x" * 96 + "*/\n"}),
    ("parameters", "seven parameters", {"src/net/x.c": function(
        "", "int f(int a, int b, int c,\n      void (*d)(int, int), int e, int g, int h)")}),
    ("good", "six parameters", {"src/net/x.c": function(
        "", "int f(int a, int b, int c, void (*d)(int, int), int e, int g)")}),
    ("nesting", "five blocks deep", {"src/net/x.c": function(DEEP)}),
    ("good", "four blocks deep, and an initialiser in them", {"src/net/x.c": function(
        "    if (a) {\n" * 4 + "    struct x y = {{1}, (struct z){2}};\n" + "    }\n" * 4)}),
    ("recursion", "a call of itself", {"src/net/x.c": function("    f();\n")}),
    ("good", "a member of the same name", {"src/net/x.c": function("    a->f();\n")}),
    ("word", "strcpy", {"src/net/x.c": function("    strcpy(a, b);\n")}),
    ("word", "sprintf", {"src/net/x.c": function("    sprintf(a, b);\n")}),
    ("word", "atoi", {"src/net/x.c": function("    x = atoi(b);\n")}),
    ("word", "strtok", {"src/net/x.c": function("    strtok (a, b);\n")}),
    ("word", "rand", {"src/net/x.c": function("    x = rand();\n")}),
    ("word", "alloca", {"src/net/x.c": function("    x = alloca(7);\n")}),
    ("word", "sleep in a test", {"tests/unit/net/x.c": function("    usleep(7);\n")}),
    ("word", "sleep outside of rt", {"src/net/x.c": function("    usleep(7);\n")}),
    ("word", "sleep in a test script", {"tests/interop/a/x.sh": "#!/bin/sh\n# SPDX-License-"
                                        "Identifier: Apache-2.0\ntrue; sle" "ep 1\n"}),
    ("word", "an exemption without a reason",
     {"src/net/x.c": function("    x = rand(); /* tidy: allow rand: */\n")}),
    ("good", "an exemption", {"src/net/x.c": function(
        "    /* tidy: allow rand: the standard asks for it */\n    x = rand();\n")}),
    ("marker", "a left-over marker", {"docs/x.md": "TO" "DO: write\n"}),
    ("marker", "a left-over marker", {"src/net/x.c": SPDX + "/* FIX" "ME */\n"}),
    ("typedef", "a typedef of a struct", {"src/net/x.c": SPDX + "typedef struct x x;\n"}),
    ("spdx", "no licence", {"src/net/x.c": "int a;\n"}),
    ("spdx", "no licence in a script", {"scripts/x": "#!/bin/sh\ntrue\n"}),
    ("once", "a header without its guard", {"src/net/x.h": SPDX + "int net_x(void);\n"}),
    ("alone", "a header that needs another before it",
     {"src/net/x.h": HEADER + "uint64_t net_x(void);\n"}),
    ("cycle", "headers that include each other",
     {"src/net/a.h": HEADER + '#include "net/b.h"\n', "src/net/b.h": HEADER
      + '#include "net/a.h"\n'}),
    ("waits", "a caller of what waits, not marked",
     {"src/nbd/x.c": function("    return step(0);\n", "int nbd_x(void)")
      + "static int step(int fd)\n{\n    return net_recv(fd, 0);\n}\n"}),
]


def breaches_of(files):
    root = tempfile.mkdtemp(prefix="tidy-test-")
    try:
        for path, text in {**GOOD, **files}.items():
            full = os.path.join(root, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w", encoding="utf-8") as f:
                f.write(text)
        os.makedirs(os.path.join(root, "tools"))
        shutil.copy(os.path.join(TOP, "tools/layers.txt"), os.path.join(root, "tools"))
        done = subprocess.run([os.path.join(TOP, "tools/tidy"), "--root", root], text=True,
                              capture_output=True, check=False)
        lines = done.stdout.splitlines()
        assert lines and (done.returncode != 0) == (len(lines) > 1), done
        return lines[:-1]
    finally:
        shutil.rmtree(root)


def main():
    failed = 0
    for rule, what, files in [("good", "the good tree", {})] + SAMPLES:
        lines = breaches_of(files)
        rules = {line.rsplit("[", 1)[1].rstrip("]") for line in lines}
        wanted = set() if rule == "good" else {rule}
        if rules != wanted:
            failed += 1
            print(f"{rule}: {what}: tidy said {lines}")
    print(f"{len(SAMPLES) + 1 - failed} of {len(SAMPLES) + 1} samples judged as they should be")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
