# Everything a developer does here, by name. `make` alone lists it.
#
# Python 3.11 or newer is all that must be there: the first `make run` or `make test` makes `.venv` and installs into it what
# the requirements files pin. Another interpreter: `make clean`, then `make test PYTHON=python3.13`.

PYTHON ?= python3
SEED   = 1
COUNT  = 20000
ARGS   =

VENV := .venv
BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip --disable-pip-version-check

# Three marks in the environment. PLACE is written when it is whole and holds the directory that it was made in; the other
# two say that what running takes is installed, and what testing takes beside.
PLACE := $(VENV)/.place
RUN   := $(VENV)/.run-installed
DEV   := $(VENV)/.dev-installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help run test lint type fmt golden bench fuzz clean

# An environment that was cut short, moved or copied along with its checkout (its scripts would run the other one's code), or
# whose interpreter is gone, is made anew.
ifneq ($(shell test -x $(BIN)/python && cat $(PLACE) 2>/dev/null),$(CURDIR))
.PHONY: $(PLACE)
endif

help:  ## say what can be made (the default)
	@echo 'make TARGET, where TARGET is one of'
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(RUN)  ## start everything in one process over the example studio, to try it out; its store is bylaw.db
	$(BIN)/bylaw dev --policies policies/studio

# A process for each processor, a file of tests at a time, in their order: what one file shares is made once, and the
# longest are not left for the end.
test: $(DEV)  ## run the tests; ARGS="-k wall" goes to pytest
	$(BIN)/pytest --numprocesses=logical --maxprocesses=4 --dist=loadfile --no-loadscope-reorder $(ARGS)

lint: $(DEV)  ## look for mistakes in the code, its layout and the shipped policies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@set -e; for folder in policies/*/; do echo "$(BIN)/bylaw lint --strict $$folder"; $(BIN)/bylaw lint --strict "$$folder"; done

type: $(DEV)  ## check the types
	$(BIN)/mypy

fmt: $(DEV)  ## put code and imports into their one layout
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

golden: $(DEV)  ## write the expected texts of the golden tests anew; read the diff before you commit it
	BYLAW_GOLDEN=rewrite $(BIN)/pytest tests/test_golden.py tests/engine/test_compiler.py tests/test_docs.py

bench: $(RUN)  ## measure what a decision costs
	$(BIN)/python -m bench.decide

fuzz: $(DEV)  ## compare the engine with the reference on generated policies; SEED=1 COUNT=20000
	$(BIN)/python -m tests.fuzz --seed $(SEED) --count $(COUNT)

clean:  ## remove everything that make made, the environment and the store of `make run` too
	rm -f bylaw.db bylaw.db-journal bylaw.db-shm bylaw.db-wal
	rm -rf $(VENV) build dist *.egg-info .coverage .coverage.* htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

$(PLACE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo 'Bylaw needs Python 3.11 or newer. Name one: make PYTHON=python3.12 …' >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@pwd -P > $@

$(RUN): $(PLACE) requirements.txt pyproject.toml
	$(PIP) install --quiet -r requirements.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(DEV): $(RUN) requirements-dev.txt
	$(PIP) install --quiet -r requirements-dev.txt
	$(PIP) check
	@touch $@
