# Every target sets up what it needs in .venv. Nothing else has to be installed but Python 3.11 or later with venv, make and git.
# Tests against real servers (ZooKeeper, MariaDB, Galera, PostgreSQL, ActiveMQ) run where `make engines` has installed them, and
# are listed as not run where it has not.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test engines check format docs conformance faults soak bench bench-engines bench-servers wheel clean

help:  ## Print what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: apt-get install python3, or say make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv is missing: apt-get install python3-venv" >&2; exit 1; }
	@echo "Setting up .venv (once)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	@touch $(READY)

demo: $(READY)  ## Run thousands of real jobs, kill a worker and a gateway, and count what was lost
	@$(BIN)/callboard demo

test: check  ## Everything that CI runs: the checks, then all tests
	$(BIN)/pytest -n 2 --dist loadgroup

engines: $(READY)  ## Install the servers that tests start privately (Debian and Ubuntu, as root)
	@$(BIN)/python -m callboard.testing.engines install
	@$(BIN)/python -c 'import MySQLdb' 2>/dev/null || { echo "Building MySQL's driver (once)"; \
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[mysql]'; }

check: $(READY)  ## Lint, format, types, and the floors of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(READY)  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)  ## Write the generated parts of docs/reference
	$(BIN)/python tools/reference.py

conformance: $(READY)  ## Ask every engine for every promise, and write README's table of it
	$(BIN)/pytest -n 2 --dist loadgroup tests/conformance --long --renew

faults: $(READY)  ## Kill, freeze and fill up, the long form too: minutes
	$(BIN)/pytest -o faulthandler_timeout=1500 tests/faults tests/acceptance --long

soak: $(READY)  ## Random operations against the models, thousands of simulated clusters: for an hour
	HYPOTHESIS_PROFILE=long $(BIN)/pytest tests/properties
	$(BIN)/pytest -n 2 --dist loadgroup tests/scenarios --long

bench: $(READY)  ## Measure this machine: figures, bench-results/bench.json and bench.png
	@$(BIN)/callboard bench --out bench-results --seconds 300

bench-engines: $(READY)  ## Measure databases, ZooKeeper and ActiveMQ beside their own limits: an hour
	@$(BIN)/callboard bench-engines --out bench-results
	@cp bench-results/bench-engines.json docs/reference/engines.json
	@$(BIN)/python tools/reference.py

bench-servers: $(READY)  ## Kill workers and gateways of two servers, measure offices: half an hour
	@$(BIN)/callboard bench-servers --out bench-results
	@cp bench-results/bench-servers.json docs/reference/servers.json
	@cp bench-results/bench-servers.png docs/images/bench-servers.png
	@$(BIN)/python tools/reference.py

wheel: $(READY)  ## Build the wheel into dist/
	@$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	@ls dist/*.whl

clean:  ## Remove everything that was made, .venv too
	rm -rf .venv dist build bench-results .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
