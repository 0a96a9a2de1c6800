# The targets of Keevo. `make help` lists them; what each needs is installed by `make deps`, in parts that they call themselves.
# Shell helpers lie in .ci/; where output goes is decided in .ci/env.sh.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

ENV := . .ci/env.sh

# The demo: CHECK=1 verifies every figure and ends, EXTRACT=1 uses the bundled extract, NODES=5 starts five.
NODES ?= 3
# All binaries are built together, with the features that the tests are built with: nothing is compiled twice.
DEMO := "$$CARGO_TARGET_DIR/debug/keevod" demo --nodes $(NODES)
DEMO_FLAGS := $(if $(CHECK),--check) $(ARGS)
# The folder of the full data; empty with EXTRACT=1, and where nothing can be had.
DEMO_DATA := $(if $(EXTRACT),:,.ci/demo-data.sh)

SECS ?= 60

# The simulator: SEEDS=200 runs so many seeds, SEED=123 replays one. It has build output of its own, since the flag
# that seeds tokio would have everything else built anew.
SEEDS ?= 20
SIM := export CARGO_TARGET_DIR="$$CARGO_TARGET_DIR/sim" RUSTFLAGS="$${RUSTFLAGS:-} --cfg tokio_unstable"

# The short form of the faults takes the binaries as they are built for the tests, without failpoints.
FAULTS_BUILD := $(if $(SHORT),--bins --examples,--bin keevod --bin keevo-faults --features keevo-server/failpoints)
comma := ,
FAULTS_FLAGS := $(if $(SHORT),--rounds 1 --only kill$(comma)pause$(comma)partition) $(ARGS)

# The nodes of the third-party suite: 1, or 3.
SUITE_NODES ?= 1

.PHONY: help deps ready rocksdb build test demo verify fix bench faults chat-convergence drill feeds-suite web-test console console-check client-test api-fuzz promtool reference book deb k8s-check fuzz sim sim-example mutants clean-cache

help: ## List the targets
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 24

deps: ## Install what building, testing and benchmarking need (Debian, Ubuntu); quick when all is there
	@.ci/deps.sh bench

# What every other target needs of it: no peers of the benchmark.
ready:
	@.ci/deps.sh

# RocksDB compiled, once for all that links it.
rocksdb: ready
	@.ci/rocksdb.sh

build: rocksdb ## Build everything
	@$(ENV); cargo build --workspace

test: ## Build and run every check and test; the last line is `N passed, N failed`
	@.ci/test.sh

demo: ## Start a three-node cluster on real data; CHECK=1 verifies it and ends, EXTRACT=1 works offline
	@.ci/deps.sh $(if $(EXTRACT),,data) && .ci/rocksdb.sh
	@$(ENV); cargo build --workspace --bins --examples; data=$$($(DEMO_DATA)); $(DEMO) $(DEMO_FLAGS) $${data:+--data "$$data"}

verify: rocksdb ## Format, lints and docs; changes nothing
	@$(ENV); cargo fmt --all --check
	@$(ENV); cargo clippy --workspace --all-targets -- -D warnings
	@$(ENV); RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

fix: rocksdb ## Format, and apply the lints' own corrections
	@$(ENV); cargo clippy --fix --allow-dirty --allow-staged --workspace --all-targets
	@$(ENV); cargo fmt --all

bench: ## Keevo beside etcd, RocksDB, Redis and PostgreSQL, in short; ARGS="compare etcd --clients 64" runs that alone
	@.ci/deps.sh bench && .ci/rocksdb.sh
	@$(ENV); cargo build --release --workspace --bin keevod --bin keevo-bench && .ci/bench.sh $(ARGS)

faults: ## Real nodes under kill -9, partitions, power cuts and worse, checked; ARGS="--only power --seed 7", SHORT=1
	@.ci/deps.sh faults && .ci/rocksdb.sh
	@$(ENV); cargo build --workspace $(FAULTS_BUILD); "$$CARGO_TARGET_DIR/debug/keevo-faults" $(FAULTS_FLAGS)

chat-convergence: rocksdb ## 100 send, 50 watch on sockets that drop, leaders are killed: all know the same in the end; ARGS="--rounds 5"
	@$(ENV); cargo build --workspace --bins --examples; "$$CARGO_TARGET_DIR/debug/keevo-faults" --only chat $(ARGS)

drill: rocksdb ## What an operator does on a bad day, checked: lost clusters, replays, rotation, rights, floods; ARGS="demo flood"
	@$(ENV); cargo build --workspace --bins --example drill; cargo test --workspace --test security --no-run; "$$CARGO_TARGET_DIR/debug/examples/drill" $(ARGS)

feeds-suite: rocksdb ## A third-party client's test suite against keevod, unmodified; SUITE_NODES=3 takes three nodes
	@$(ENV); cargo build --bin keevod --bin keevo-cli && .ci/feeds-suite.sh $(SUITE_NODES)

web-test: rocksdb ## The tutorials and the console in a real browser against keevod; SCREENSHOTS=FOLDER keeps pictures
	@.ci/deps.sh web
	@$(ENV); cargo build --bin keevod --bin keevo-cli && .ci/web-test.sh $(SCREENSHOTS) && .ci/console-test.sh $(SCREENSHOTS)

console: ## Build the web console's files anew, which are committed; needs Node
	@.ci/deps.sh web && .ci/console-build.sh

console-check: ## Check that they are what their sources give
	@.ci/deps.sh web && .ci/console-build.sh check

promtool: ## Check the packaged alert rules and run their unit tests
	@.ci/deps.sh promtool && .ci/promtool.sh

client-test: rocksdb ## The TypeScript client of chat: types, size, unit tests, and its tests against keevod
	@.ci/deps.sh web
	@$(ENV); cargo build --bin keevod && .ci/client-test.sh

api-fuzz: rocksdb ## Fuzz the HTTP APIs by their OpenAPI documents; CASES=50 of each operation, SEED=7
	@$(ENV); cargo build --bin keevod && .ci/schemathesis.sh $(CASES)

reference: ready ## Write what is made from the code: docs/api, its list in docs/SUMMARY.md, the table of docs/LIMITS.md
	@$(ENV); cargo run -q -p keevo-tidy --example reference

book: ready ## Build docs/ as a book into the cache folder, and check its links; the first time mdBook is compiled
	@.ci/book.sh

deb: rocksdb ## Debian packages of keevod and keevo-cli, optimised, in the cache folder
	@$(ENV); cargo build --release --locked --bin keevod --bin keevo-cli && .ci/deb.sh

k8s-check: ## Check the manifests of keevo-server/packaging/kubernetes against Kubernetes' schemas
	@.ci/k8s-check.sh

fuzz: rocksdb ## Fuzz every decoder for SECS seconds; ARGS="--target entry --seed 7"
	@$(ENV); cargo run -p keevo-fuzz --bin keevo-fuzz -- --secs $(SECS) $(ARGS)

sim: ready ## Simulate whole clusters under faults; SEEDS=200, or SEED=123 to replay one seed
	@$(ENV); $(SIM); cargo run -q -p keevo-sim -- $(if $(SEED),--seed $(SEED),--seeds $(SEEDS)) $(ARGS)

sim-example: ready ## Find the planted bug of keevo-raft/sim/examples/tickets.rs
	@$(ENV); $(SIM); cargo run -q -p keevo-sim --example tickets

mutants: ready ## Seeded defects that the simulator must catch; SEEDS=50, MUTANTS="lost-dedup guard-ignored"
	@.ci/mutants.sh

clean-cache: ## Delete the build output, the compiled RocksDB and the compiler cache that every clone shares
	@$(ENV); rm -rf -- "$${keevo_cache:?}/target" "$${keevo_cache:?}/rocksdb" "$${keevo_cache:?}/ccache"
