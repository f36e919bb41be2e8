# Needs python3 (3.11 or newer) with venv, and make. Everything else goes into .venv, at the versions and hashes
# of requirements/*.txt. Another interpreter: make PYTHON=python3.12 ...

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Which folders are checked: those of the tree that have content.
CHECKED := $(wildcard src tests bench examples)

# A stamp says what the environment holds. It is older than its lock when the lock has changed, and is then redone.
MADE := $(VENV)/.made
RUN  := $(VENV)/.run-installed
DEV  := $(VENV)/.dev-installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check check-format check-lint check-types check-imports format bench setup lock clean

help:
	@echo "make demo    run the order desk, with a kill in the middle"
	@echo "make test    all tests"
	@echo "make check   format, lint, types, import order (make -k check: all four, whatever fails)"
	@echo "make format  format the code and apply the safe lint fixes"
	@echo "make bench   the benchmarks"
	@echo "make setup   the development environment in $(VENV)"
	@echo "make lock    resolve requirements/*.txt anew"
	@echo "make clean   remove $(VENV), caches and built files"

demo: $(RUN)
	$(BIN)/holdfast demo

test: $(DEV)
	$(BIN)/python -m pytest -q $(ARGS)

check: check-format check-lint check-types check-imports

check-format: $(DEV)
	$(BIN)/ruff format --check --quiet $(CHECKED)

check-lint: $(DEV)
	$(BIN)/ruff check $(CHECKED)

check-types: $(DEV)
	$(BIN)/mypy $(CHECKED)

check-imports: $(DEV)
	$(BIN)/lint-imports --no-logo

format: $(DEV)
	$(BIN)/ruff check --fix $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

bench: $(DEV)
	$(BIN)/python bench/durable_steps.py $(ARGS)

setup: $(DEV)

$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "holdfast needs Python 3.11 or newer; '$(PYTHON)' is missing or older: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || \
	  { echo "'$(PYTHON)' has no venv module; on Debian: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# The package is installed as a link to src/: a change of the code needs no new installation.
$(RUN): $(MADE) requirements/run.txt pyproject.toml
	$(PIP) install --require-hashes -r requirements/run.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# The development lock holds the run-time lock at the same versions.
$(DEV): $(MADE) requirements/dev.txt pyproject.toml
	$(PIP) install --require-hashes -r requirements/dev.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $(RUN) $@

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --group build pyproject.toml

# `make lock ARGS=--upgrade` takes the newest versions; without it what is locked stays where it can.
lock: $(DEV)
	$(LOCK) --extra dev $(ARGS) --output-file requirements/dev.txt
	$(LOCK) --constraint requirements/dev.txt --output-file requirements/run.txt

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
