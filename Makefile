# Every target sets up what it needs first and is quick when nothing changed.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := demo
export PATH := $(HOME)/.cargo/bin:$(PATH)

# Clean clones of an automatic build share their compiled dependencies; nothing depends on them being there.
ifeq ($(CI),true)
export CARGO_TARGET_DIR ?= $(HOME)/.cache/headwater/target
endif

# Seconds for each fuzz target.
SECONDS ?= 30

.PHONY: demo test check audit bench fuzz web clean
.PHONY: setup-build setup-check setup-test setup-bench setup-fuzz

demo: setup-build web ## Build everything and start the server with a test publisher
	cargo build --release --locked --quiet
	cargo run --release --locked --quiet -- demo

test: setup-test web ## Every test, with real encoders, players and browsers
	$(MAKE) --no-print-directory fuzz
	cd web && npm test
	cargo nextest run --locked --workspace

check: setup-check web ## Formatting, lints, licences
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
	cargo deny --log-level error check bans licenses sources
	cd web && npm run check

audit: setup-check ## Known vulnerabilities of the dependencies; asks the network for the advisory database
	cargo deny --log-level error check advisories

bench: setup-bench web ## Measure beside the peers; writes benches/RESULTS.md
	benches/run.sh

fuzz: setup-fuzz ## Every fuzz target for SECONDS= each
	fuzz/run.sh $(SECONDS)

web: web/dist/index.html ## The pages that the binary embeds

web/dist/index.html: $(shell find web/src web/public -type f 2>/dev/null) web/package-lock.json web/vite.config.ts \
		$(wildcard web/*.html) | setup-build
	cd web && npm ci --no-audit --no-fund --loglevel=error && npm run build --silent

clean: ## Remove what was built
	rm -rf target web/dist web/node_modules fuzz/target

setup-build setup-check setup-test setup-bench setup-fuzz: setup-%:
	@infra/setup.sh $*
