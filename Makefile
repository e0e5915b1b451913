# The commands of this tree. Each is a script that also runs by itself; see scripts/.
.DEFAULT_GOAL := help
.PHONY: help demo test test-peers test-ffmpeg lint bench bench-fanout bench-links soak cross build source fuzz clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: ## a camera on the air: prints the viewer's address (INPUT=/dev/video0 for a real one; Ctrl-C ends it)
	@scripts/setup build
	@scripts/build
	@bin/demo

test: ## everything that CI runs (GANTRY_TEST_VM=0 leaves the virtual machine out)
	@scripts/test

test-peers: ## other people's programs against ours, from a Debian unstable chroot (large download)
	@scripts/test-peers

test-ffmpeg: ## encoder/libav in the FFmpeg of Debian 12 and of Debian 13 (root; a download each, once)
	@scripts/test-ffmpeg

lint: ## gofmt, go vet, staticcheck, shellcheck, and the tree's own rules
	@scripts/setup build test
	@scripts/lint

bench: ## all benchmarks (BENCH=regexp for some, COUNT=10 for benchstat)
	@scripts/setup build test
	@scripts/bench

bench-fanout: ## the relay's cost for each viewer, beside the limit and PEER=BINARY (docs/fanout.md)
	@scripts/setup build test
	@scripts/bench-fanout

bench-links: ## pictures in time over lossy networks, and how the bitrate follows the link (docs/links.md)
	@scripts/setup build test
	@scripts/bench-links

soak: ## an hour of joins, losses and restarts; nothing may leak (DURATION=10m)
	@scripts/setup build test
	@scripts/soak

cross: ## both daemons for arm64 and armv7, into dist/
	@scripts/setup build cross
	@scripts/cross

build: ## both daemons into bin/ (TAGS=nolibav: without FFmpeg's libraries)
	@scripts/setup build
	@scripts/build

source: ## the source with all its modules, dist/gantry-VERSION.tar.gz (what buildroot/ builds from)
	@scripts/source

fuzz: ## each fuzz target for a while (FUZZTIME=10s)
	@scripts/setup build
	@scripts/fuzz

clean: ## remove what the commands above have built
	rm -rf bin dist
