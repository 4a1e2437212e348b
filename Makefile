# Two commands set up everything on a fresh Debian or Ubuntu with Rust present:
# `make demo` and `make test`. What is missing is listed in one line, then
# installed. The build runs as you; root is needed where namespaces begin.

FUZZ_SECONDS ?= 30
export FUZZ_SECONDS
MAKEFLAGS += --no-print-directory
NEED_ROOT = demo test test-long fresh diagnose compare perf soak

.PHONY: help $(NEED_ROOT) test-unit lint bench pipeline instructions instructions-update fuzz zerocopy man image

help:
	@echo 'make demo        two nodes and three pods on this machine, real traffic, a table of results   (root)'
	@echo 'make test        every test: units, properties, fuzz seeds, lab with real TAPs and kernel peers (root)'
	@echo 'make test-unit   the part of it that needs no root'
	@echo 'make test-long   1 GB transfers, more property cases, all of make test on a fresh machine, a'
	@echo '                 mutation for each stage, ten minutes of fuzzing per target                     (root)'
	@echo 'make fresh       make demo and make test-unit on a fresh Debian that debootstrap makes          (root)'
	@echo 'make diagnose    breaks a node in a dozen ways and shows what ringway doctor says of each       (root)'
	@echo 'make zerocopy    two nodes on virtio NICs (AF_XDP zero-copy) in a virtual machine; needs no KVM'
	@echo 'make compare     throughput and latency beside the kernel bridge and kernel VXLAN, same run     (root)'
	@echo 'make perf        the same in all underlay modes and under load, with plots, into perf/results     (root)'
	@echo 'make soak        ten minutes at full rate: memory must not grow, no buffer may get lost         (root)'
	@echo 'make bench       criterion: each stage and table; BENCH=name for one'
	@echo 'make pipeline    the pipeline alone, memory to memory: every scenario with its targets, and two cores'
	@echo 'make instructions  instructions per packet under valgrind, against perf/instructions.toml (instructions-update REASON=…)'
	@echo 'make fuzz        every fuzz target for FUZZ_SECONDS=$(FUZZ_SECONDS) each; TARGET=name for one'
	@echo 'make man         manual pages and shell completions into target/man and target/completions'
	@echo 'make image       the container image for Kubernetes as an OCI archive, without a container tool'
	@echo 'make lint        format, clippy, rustdoc, purity of the packet path, licences'
	@echo
	@echo 'root: as root, or as you: sudo is then called once, before the build, which still runs as you'

ifneq ($(shell id -u),0)
$(NEED_ROOT):
	@scripts/as-root.sh make $@
else
demo:
	@scripts/need-root.sh make demo
	@scripts/deps.sh cc ip ethtool iperf3 ping nft
	@scripts/cargo.sh build --locked --release -p ringway-agent -p ringway-cni -p ringway-perf
	@scripts/perf.sh demo

test:
	@scripts/need-root.sh make test
	@scripts/deps.sh cc ip ethtool iperf3 ping nft ip6tables tcpdump
	@scripts/test.sh all

test-long:
	@scripts/need-root.sh make test-long
	@scripts/deps.sh cc c++ ip ethtool iperf3 ping nft ip6tables tcpdump git debootstrap
	@RINGWAY_LONG=1 RINGWAY_TRANSFER_MB=1024 PROPTEST_CASES=20000 scripts/test.sh all
	@RINGWAY_LONG=1 scripts/fresh.sh
	@scripts/mutations.sh
	@FUZZ_SECONDS=600 scripts/fuzz.sh $(TARGET)

fresh:
	@scripts/need-root.sh make fresh
	@scripts/deps.sh git debootstrap
	@scripts/fresh.sh

compare:
	@scripts/need-root.sh make compare
	@scripts/deps.sh cc ip ethtool iperf3 ping nft
	@scripts/cargo.sh build --locked --release -p ringway-agent -p ringway-perf
	@scripts/perf.sh compare

diagnose:
	@scripts/need-root.sh make diagnose
	@scripts/deps.sh cc ip ethtool iperf3 ping nft
	@scripts/cargo.sh build --locked --release -p ringway-agent -p ringway-cni -p ringway-perf
	@scripts/diagnose.sh

# Under 15 minutes: a test of compare sums the plan of this line up.
perf:
	@scripts/need-root.sh make perf
	@scripts/deps.sh cc git ip ethtool iperf3 ping nft
	@scripts/cargo.sh build --locked --release -p ringway-agent -p ringway-perf
	@scripts/perf.sh compare --publish perf/results --readme README.md --modes full,cloud,bare --pairs 5 --seconds 2 --tests same,across,udp,rtt,idle,wake,loaded,flood,memory

soak:
	@scripts/need-root.sh make soak
	@scripts/deps.sh cc ip ethtool iperf3 ping nft
	@scripts/cargo.sh build --locked --release -p ringway-agent -p ringway-perf
	@scripts/perf.sh soak
endif

test-unit:
	@scripts/deps.sh cc
	@scripts/test.sh unit

lint:
	@scripts/deps.sh cc
	@scripts/lint.sh

bench:
	@scripts/deps.sh cc
	@scripts/cargo.sh bench --locked -p ringway-benches $(if $(BENCH),--bench $(BENCH))

pipeline:
	@scripts/deps.sh cc
	@scripts/cargo.sh build --locked --release -p ringway-agent -p ringway-perf
	@scripts/cargo.sh run --quiet --locked --release -p ringway-perf -- pipeline series
	@scripts/cargo.sh run --quiet --locked --release -p ringway-perf -- pipeline scaling

instructions:
	@scripts/deps.sh cc
	@scripts/instructions.sh check

instructions-update:
	@scripts/deps.sh cc
	@scripts/instructions.sh update '$(subst ','\'',$(REASON))'

fuzz:
	@scripts/deps.sh cc c++
	@scripts/fuzz.sh $(TARGET)

zerocopy:
	@scripts/deps.sh cc
	@scripts/zerocopy.sh

man:
	@scripts/deps.sh cc
	@scripts/cargo.sh build --locked --release -p ringway-agent
	@target/release/ringway man target/man
	@mkdir -p target/completions
	@for shell in bash zsh fish; do target/release/ringway completions $$shell >target/completions/ringway.$$shell || exit 1; done

image:
	@scripts/deps.sh cc nft ip6tables tcpdump
	@scripts/image.sh
	@scripts/image-check.sh
