# SPDX-License-Identifier: Apache-2.0
"""What sealing segments costs on one core, beside the bare libraries (bench/seal.c)."""
import os
import subprocess

NAME = "seal"
RATIO_MIN = 0.9
FAST = "noise lz4 aes-256-gcm"
FAST_MIN = 1000


def rows(build, quick):
    """(what, seal, bare, ratio, open, stored) of each cipher and compressor; MB/s of CPU time."""
    program = os.path.join(build, "bench", "seal")
    done = subprocess.run([program, "8" if quick else "400"], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=900, check=True)
    for line in done.stdout.splitlines()[1:]:
        words = line.rsplit(maxsplit=5)
        yield words[0].strip(), *[float(w.rstrip("%")) for w in words[1:]]


def section(build, quick):
    lines = ["## Sealing segments, one core", "",
             "MB of blocks per second of CPU. The libraries alone compress each frame and encrypt "
             "it with a nonce and", "associated data of its own (without a cipher: a CRC32C of "
             "it); they know nothing of data that do not shrink.", "",
             "| data, compressor, cipher, frame | sealed | libraries | ratio | opened | stored % |",
             "|---|---|---|---|---|---|"]
    found = list(rows(build, quick))
    for what, seal, bare, ratio, opened, stored in found:
        lines.append(f"| {what} | {seal:,.0f} | {bare:,.0f} | {ratio:.2f} | {opened:,.0f} "
                     f"| {stored:.1f} |")
    worst = min((r for r in found if " none none " not in r[0]), key=lambda r: r[3])
    fast = min(r[1] for r in found if r[0].startswith(FAST))
    lines += ["", f"- ratio at its worst where there is something to compress or encrypt, at least "
              f"{RATIO_MIN}: **{worst[3]:.2f}** ({worst[0]}), " +
              ("reached" if worst[3] >= RATIO_MIN else "**not reached**"),
              f"- {FAST}, at least {FAST_MIN} MB/s: **{fast:,.0f}**, " +
              ("reached" if fast >= FAST_MIN else "**not reached**"), ""]
    return "\n".join(lines)
