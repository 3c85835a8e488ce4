# One-word tasks. `make demo` and `make test` set up everything they need on a fresh Debian 12 machine.
PYTHON ?= /usr/bin/python3
PORT ?= 8443
UTC_OFFSET ?= +00:00
KEYS ?= softhsm-config/development-keys.toml

$(if $(word 2,$(CURDIR)),$(error The path of this folder must have no blank in it: make cannot work with one))

# With root, code and state live where the two system users can read them; without, in this folder.
ifeq ($(shell id -u),0)
PREFIX ?= /opt/keywatt
STATE ?= /var/lib/keywatt-demo
else
PREFIX ?= $(CURDIR)/.demo
STATE ?= $(CURDIR)/.demo/state
endif
DEMO := $(PREFIX)/venv
VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin

C_SOURCES := $(wildcard hsm/module/src/*.[ch] hsm/module/include/*.h hsm/module/tests/*.[ch] hsm/module/fuzz/*.[ch] \
	tests/performance/*.c tests/support/*.c)

DEBIAN_RUN := gcc libc6-dev libp11-kit-dev make pkg-config python3 python3-dev python3-venv softhsm2
DEBIAN_TEST := clang-14 git golang-go golang-golang-x-mod-dev iproute2 libclang-rt-14-dev opensc openssh-client postgresql-15 strace
DEBIAN_BENCH := libnghttp2-dev libssl-dev

.PHONY: help demo serve certify test check lint format unit sanitize fuzz fuzz-short bench torture build lock clean debian-run debian-test

help:
	@echo "make demo      a first token in a minute: install, build, set up, issue, enter into a virtual meter"
	@echo "make serve     keep the server of the demo running"
	@echo "make certify   the same in certification mode, for the official compliance tests"
	@echo "make test      every check and test (make lint, make unit and a short make fuzz are its parts)"
	@echo "make bench     benchmarks, as ratios of one run (a quarter of an hour; BENCH=--quick for two minutes)"
	@echo "make torture   500 times kill -9 under load on each database (half an hour; KILLS=N for another number)"
	@echo "make fuzz      a long fuzzing run"

# --- demo ---------------------------------------------------------------------------------------------------------
demo: $(DEMO)/.installed
	@$(DEMO)/bin/python demo/run.py --state $(STATE) --port $(PORT) --check
	@$(DEMO)/bin/python softhsm-config/setup.py --state $(STATE) --keys $(KEYS) --utc-offset=$(UTC_OFFSET)
	@$(DEMO)/bin/python demo/setup_appliance.py --state $(STATE) --port $(PORT)
	@$(DEMO)/bin/python demo/run.py --state $(STATE) --port $(PORT) -- $(DEMO)/bin/python demo/demo.py --state $(STATE)
	@echo
	@echo "Keep the server running:   make serve"
	@echo "and call it from another terminal:"
	@echo "  export PATH=$(DEMO)/bin:\$$PATH KEYWATT_CLIENT=$(STATE)/client/client.toml"
	@echo "  keywatt credit --meter 00000000000 --sgc 201457 --amount 25.6"

serve: $(DEMO)/.installed
	@$(DEMO)/bin/python demo/run.py --state $(STATE) --port $(PORT) --check
	@$(DEMO)/bin/python softhsm-config/setup.py --state $(STATE) --keys $(KEYS) --utc-offset=$(UTC_OFFSET)
	@$(DEMO)/bin/python demo/setup_appliance.py --state $(STATE) --port $(PORT)
	@$(DEMO)/bin/python demo/run.py --state $(STATE) --port $(PORT)

certify: $(DEMO)/.installed
	@$(DEMO)/bin/python demo/run.py --state $(STATE) --port $(PORT) --check
	@$(DEMO)/bin/python softhsm-config/setup.py --state $(STATE)-certification --keys $(KEYS) --mode certification
	@$(DEMO)/bin/python demo/setup_appliance.py --state $(STATE)-certification --port $(PORT)
	@echo "From another terminal:"
	@echo "  export PATH=$(DEMO)/bin:\$$PATH KEYWATT_CLIENT=$(STATE)-certification/client/client.toml"
	@echo "  keywatt credit --meter 600727000000000009 --sgc 201457 --amount 0.1 --issue-time 2014-03-01T13:00"
	@$(DEMO)/bin/python demo/run.py --state $(STATE)-certification --port $(PORT)

PRODUCT := $(shell find appliance hsm keyloader sts proto/keywatt -type f \
	\( -name '*.py' -o -name '*.c' -o -name '*.h' -o -name '*.proto' -o -name Makefile \) 2>/dev/null)

$(DEMO)/.installed: requirements.lock pyproject.toml hatch_build.py $(PRODUCT) | debian-run
	@umask 022 && (test -x $(DEMO)/bin/python || $(PYTHON) -m venv $(DEMO))
	@echo "Installing from PyPI, by name, version and hash …"
	@umask 022 && $(DEMO)/bin/pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	@echo "Building the functionality module and the package …"
	@umask 022 && $(DEMO)/bin/pip install -qq --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall .
	@touch $@

debian-run:
	@tools/debian.sh $(DEBIAN_RUN)

debian-test: debian-run
	@tools/debian.sh $(DEBIAN_TEST)

# --- development --------------------------------------------------------------------------------------------------
build: $(VENV)/.installed

$(VENV)/.installed: requirements-dev.lock pyproject.toml hatch_build.py hsm/module/Makefile $(wildcard hsm/module/src/* hsm/module/include/*) $(shell find proto/keywatt -name '*.proto') | debian-test
	@umask 022 && (test -x $(BIN)/python || $(PYTHON) -m venv $(VENV))
	@umask 022 && $(BIN)/pip install -qq --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@umask 022 && $(BIN)/pip install -qq --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

# The tests run processes as the two system users, who must be able to read this folder: with root and a folder that
# is closed to others, such as below /root, all of it happens in a copy.
COPY := /var/tmp/keywatt-checkout
ifeq ($(shell id -u),0)
REACHABLE := $(shell setpriv --reuid 65534 --regid 65534 --clear-groups test -r "$(CURDIR)/Makefile" && echo yes)
else
REACHABLE := yes
endif

test:
ifeq ($(REACHABLE),yes)
	@$(MAKE) lint unit sanitize fuzz-short
else
	@echo "Other users cannot read $(CURDIR): testing a copy in $(COPY)"
	@rm -rf $(COPY) && cp -a "$(CURDIR)" $(COPY) && rm -rf $(COPY)/.venv && chmod 755 $(COPY)
	@$(MAKE) -C $(COPY) lint unit sanitize fuzz-short
endif

check: test

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --no-incremental demo softhsm-config/setup.py hatch_build.py
	$(BIN)/lint-imports
	cd proto && $(BIN)/buf lint
	$(BIN)/clang-format --dry-run --Werror $(C_SOURCES)

unit: build
	$(BIN)/python -m pytest -n 2 --dist loadfile

format: build
	$(BIN)/ruff check --fix -q . ; $(BIN)/ruff format -q .
	$(BIN)/clang-format -i $(C_SOURCES)

# The module under AddressSanitizer and UndefinedBehaviorSanitizer, in front of the real SoftHSM.
sanitize: build
	mkdir -p build/sanitized
	$(MAKE) -s -C hsm/module OUT=$(CURDIR)/build/sanitized \
		CFLAGS="-U_FORTIFY_SOURCE -fsanitize=address,undefined -fno-sanitize-recover=all -g"
	LD_PRELOAD=$$($(CC) -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 \
		$(BIN)/python -m tests.sanitized build/sanitized/libkeywatt-fm.so \
		tests/module/test_rules.py tests/module/test_profiles.py tests/module/test_attacks_python.py \
		-k "not production and not guessing and not interface"

fuzz-short: build
	$(MAKE) -s -C hsm/module fuzz RUNS=200000 SEEDS="$(BIN)/python fuzz/seeds.py"
	$(BIN)/python -m tests.fuzz.worker_frames -runs=20000 -max_len=4096

fuzz: build
	$(MAKE) -s -C hsm/module fuzz RUNS=5000000 SEEDS="$(BIN)/python fuzz/seeds.py"
	$(BIN)/python -m tests.fuzz.worker_frames -runs=1000000 -max_len=4096

BENCH ?=
KILLS ?= 500

bench: build
	@tools/debian.sh $(DEBIAN_BENCH)
	$(BIN)/python -m tests.performance.bench $(BENCH)

torture: build
	KEYWATT_KILLS=$(KILLS) $(BIN)/python -m pytest -s tests/faults/test_crashes.py

LOCK := -q pyproject.toml --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate

lock:
	$(BIN)/uv pip compile $(LOCK) --extra build -o requirements.lock
	$(BIN)/uv pip compile $(LOCK) --extra build --extra dev -o requirements-dev.lock

clean:
	rm -rf .venv .demo build dist proto/generated .mypy_cache .ruff_cache .pytest_cache .hypothesis
	$(MAKE) -s -C hsm/module clean
