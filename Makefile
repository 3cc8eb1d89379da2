# SPDX-License-Identifier: Apache-2.0
# The door to everything; the work is done by meson, scripts/ and tools/.
.PHONY: all run test soak lint asan tsan sim fuzz interop bench install clean
all:
	@scripts/install build && scripts/build build
run:
	@scripts/run
test:
	@scripts/test
soak:
	@scripts/soak
lint:
	@scripts/install build lint && tools/lint
asan tsan:
	@scripts/install build sanitize && tools/sanitize $@
sim: all                      # make sim SEED=17: that seed; without: the seeds of make test
	@scripts/install test && scripts/build build && build/tests/sim/zerofs-sim $(SEED)
fuzz:                         # make fuzz T=nbd_option S=60: that target for 60 s; without T: each
	@scripts/install build sanitize && tools/fuzz "$(T)" "$(S)"
interop:
	@scripts/install build test && scripts/build build && tools/runtests --build build interop
bench:
	@scripts/install build bench && scripts/build build && bench/run
install: all
	@meson install -C build --no-rebuild
clean:
	@rm -rf build build-*
