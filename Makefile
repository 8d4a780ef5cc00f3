# What a person types, and what CI runs. `make help` lists it.

PREFIX  ?= $(HOME)/.local
DESTDIR ?=

# The agent image. The engine is the first that answers; say ENGINE=podman to choose.
ENGINE       ?=
IMAGE        ?= rust-claw-agent:latest
WITH_BROWSER ?= 0
IMAGE_FLAGS  ?=

# More arguments for the tests: make test ARGS='queue::'
ARGS ?=
# Whether the tests also try the program as it is shipped, which takes minutes to build: WITH_RELEASE=1.
WITH_RELEASE ?= $(if $(filter true,$(CI)),1,0)
# Tests at a time: one more than processors, as some only wait.
TEST_THREADS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
# How long `make soak` talks; the line drops as often in an hour as it may in a day.
SOAK_SECONDS ?= 3600
# How often it then ends the connections of 120 programs, each of which comes back ten times a
# minute at most.
SOAK_DISCONNECTS ?= 10000

CARGO  ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)

# The runner has to start in any Linux image, so it is linked statically. On Linux with glibc that
# needs nothing but libc.a, which comes with the compiler's headers (on some systems as a package
# `glibc-static`); elsewhere it is built for musl.
HOST := $(shell rustc -vV | sed -n 's/^host: //p')
ifneq (,$(findstring -linux-,$(HOST)))
RUNNER_TARGET ?= $(HOST)
else ifneq (,$(findstring aarch64,$(HOST)))
RUNNER_TARGET ?= aarch64-unknown-linux-musl
else
RUNNER_TARGET ?= x86_64-unknown-linux-musl
endif
RUNNER_FLAGS := -C target-feature=+crt-static
ifneq ($(RUNNER_TARGET),$(HOST))
RUNNER_FLAGS += -C linker=rust-lld
endif

# Where the program looks for it, from its own place: ../lib/rust-claw. It holds in the build tree
# as it does below PREFIX. The folder is also the whole build context of the image.
RUNNER := $(TARGET)/lib/rust-claw/claw-agent-runner

.PHONY: help run install test check bench bench-agent soak layout image clean program runner

help:
	@echo 'make run      build, then chat with the assistant'
	@echo 'make install  build, then put the program below PREFIX ($(PREFIX))'
	@echo 'make image    build the agent image $(IMAGE); WITH_BROWSER=1 adds Chromium, ENGINE=podman'
	@echo 'make test     get what the tests need (tests/setup.sh), build, run all tests; ARGS=name'
	@echo 'make check    formatting, lints, documentation'
	@echo 'make bench    measure speed and size'
	@echo 'make soak     an hour of WhatsApp with drops, restarts and power cuts, then'
	@echo '              10,000 disconnects; SOAK_SECONDS=600, SOAK_DISCONNECTS=1000'
	@echo 'make layout   after many changes: look again which functions serve all day (src/layout.txt)'
	@echo 'make clean    remove all that was built'

program:
	$(CARGO) build --release --locked --package rust-claw

runner:
	@if [ '$(RUNNER_TARGET)' != '$(HOST)' ] && command -v rustup >/dev/null && \
	    ! rustup target list --installed | grep -qx '$(RUNNER_TARGET)'; then \
	  echo 'The agent runner is a Linux program. Once, run: rustup target add $(RUNNER_TARGET)' >&2; \
	  exit 1; \
	fi
	RUSTFLAGS='$(RUNNER_FLAGS)' $(CARGO) build --release --locked \
	  --package rust-claw-agent-runner --target $(RUNNER_TARGET)
	@install -d '$(dir $(RUNNER))'
	@built='$(TARGET)/$(RUNNER_TARGET)/release/claw-agent-runner'; \
	  cmp -s "$$built" '$(RUNNER)' || install -m 0755 "$$built" '$(RUNNER)'

run: program runner
	@sh container/ensure-sandbox.sh
	@'$(TARGET)/release/rust-claw' chat

install: program runner
	@install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(PREFIX)/lib/rust-claw' \
	  '$(DESTDIR)$(PREFIX)/share/rust-claw'
	@install -m 0755 '$(TARGET)/release/rust-claw' '$(DESTDIR)$(PREFIX)/bin/rust-claw'
	@install -m 0755 '$(RUNNER)' '$(DESTDIR)$(PREFIX)/lib/rust-claw/claw-agent-runner'
	@install -m 0644 container/Dockerfile LICENSE '$(DESTDIR)$(PREFIX)/share/rust-claw/'
	@if [ -d container/skills ]; then \
	  rm -rf '$(DESTDIR)$(PREFIX)/share/rust-claw/skills'; \
	  cp -R container/skills '$(DESTDIR)$(PREFIX)/share/rust-claw/skills'; \
	fi
	@echo 'installed:'
	@echo '  $(DESTDIR)$(PREFIX)/bin/rust-claw'
	@echo '  $(DESTDIR)$(PREFIX)/lib/rust-claw/claw-agent-runner'
	@echo '  $(DESTDIR)$(PREFIX)/share/rust-claw/'
	@case ":$$PATH:" in \
	  *':$(PREFIX)/bin:'*) echo 'next: rust-claw chat' ;; \
	  *) echo 'next: $(PREFIX)/bin/rust-claw chat   ($(PREFIX)/bin is not in PATH)' ;; \
	esac

image: runner
	@engine='$(ENGINE)'; \
	for each in docker podman; do \
	  if [ -z "$$engine" ] && $$each version >/dev/null 2>&1; then engine=$$each; fi; \
	done; \
	if [ -z "$$engine" ]; then \
	  echo 'No container engine answers (docker, podman). With bubblewrap no image is needed.' >&2; \
	  exit 1; \
	fi; \
	version=$$($(CARGO) pkgid --locked --package rust-claw-agent-runner | sed 's/.*[@#]//'); \
	set -x; \
	"$$engine" build --tag '$(IMAGE)' --file container/Dockerfile \
	  --build-arg WITH_BROWSER='$(WITH_BROWSER)' --build-arg RUNNER_VERSION="$$version" \
	  $(IMAGE_FLAGS) '$(dir $(RUNNER))'

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy --package rust-claw --no-default-features --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --no-deps --locked --workspace --document-private-items

# The tests of a package build its own programs, and these two with the tests' features.
BUILT_WITH_TESTS := rust-claw rust-claw-bench

# The image has to hold the runner of this tree; tests/setup.sh builds both. Tests that need a part
# which is not on this machine are told by the part's word in their names.
test:
	@tests/setup.sh
	@if [ '$(WITH_RELEASE)' = 1 ]; then $(MAKE) --no-print-directory program; fi
	$(CARGO) build --locked --workspace --bins $(BUILT_WITH_TESTS:%=--exclude %)
	@. '$(TARGET)/test-tools/env.sh'; \
	filter='all()'; skip=''; missing="$$CLAW_TEST_MISSING"; \
	if [ '$(WITH_RELEASE)' = 1 ]; then \
	  export CLAW_TEST_RELEASE='$(abspath $(TARGET))/release/rust-claw'; \
	else missing="$$missing release"; fi; \
	for part in $$missing; do \
	  filter="$$filter and not test($$part)"; skip="$$skip --skip $$part"; \
	  echo "make test: LEFT OUT: every test with '$$part' in its name" >&2; \
	done; \
	if $(CARGO) nextest --version >/dev/null 2>&1; then \
	  $(CARGO) nextest run --locked --workspace --test-threads $(TEST_THREADS) -E "$$filter" $(ARGS); \
	else \
	  $(CARGO) test --locked --workspace --no-fail-fast $(ARGS) -- $$skip; \
	fi

# In place of sandboxes, so that their start costs next to nothing. With glibc it costs 0.4 ms.
BENCH_CC ?= $(shell command -v musl-gcc || echo cc)

bench-agent:
	@case '$(BENCH_CC)' in *musl*) ;; *) \
	  echo 'make bench: no musl-gcc here (Debian: apt-get install musl-tools), so each start in a' \
	    'figure costs 0.4 ms more' >&2 ;; esac
	@install -d '$(TARGET)/release'
	version=$$($(CARGO) pkgid --locked --package rust-claw-protocol | sed 's/.*[@#]//'); \
	$(BENCH_CC) -std=c11 -O2 -Wall -Wextra -Werror -static -s "-DRUNNER_VERSION=\"$$version\"" \
	  -o '$(TARGET)/release/bench-agent' tests/fakes/bench-agent.c

# With Baileys, which tests/setup.sh gets, WhatsApp is measured too.
bench: runner bench-agent
	@if [ -e '$(TARGET)/test-tools/env.sh' ]; then . '$(TARGET)/test-tools/env.sh'; fi; \
	  $(CARGO) run --release --locked --package rust-claw-bench

soak: runner bench-agent
	@tests/setup.sh
	@. '$(TARGET)/test-tools/env.sh'; \
	  $(CARGO) run --release --locked --package rust-claw-bench -- --soak '$(SOAK_SECONDS)' && \
	  $(CARGO) run --release --locked --package rust-claw-bench -- --disconnects '$(SOAK_DISCONNECTS)'

# A program's memory is, most of all, the pieces of itself that it has touched: see src/build.rs.
layout: runner
	$(CARGO) rustc --release --locked --package rust-claw --bin rust-claw \
	  --target-dir '$(TARGET)/layout' -- -C strip=none
	ln -sfn ../lib '$(TARGET)/layout/lib'
	tests/layout.sh '$(TARGET)/layout/release/rust-claw' >'$(TARGET)/layout.txt'
	mv '$(TARGET)/layout.txt' src/layout.txt

clean:
	$(CARGO) clean
