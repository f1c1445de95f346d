# The same words at the desk and in CI. Everything that is built or fetched lies in one cache folder outside the checkout.
CACHE ?= $(or $(DATAJOINT_MIGRATE_CACHE),$(HOME)/.cache/datajoint-migrate)
PYTHON ?= python3
# Each worker of the tests has servers of its own; a server named from outside takes WORKERS=0.
# Tests wait for locks half of their time, so there are more workers than processors.
WORKERS ?= $(shell echo $$(( ($$(nproc) * 3 + 1) / 2 )))
# A file is one worker's, in the order that tests/conftest.py says: the longest first.
SPREAD := --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
VENV := $(CACHE)/venv-dev
export DATAJOINT_MIGRATE_CACHE := $(CACHE)
export CARGO_TARGET_DIR := $(CACHE)/target
export VIRTUAL_ENV := $(VENV)
# Clients and tests are compiled once, outside the checkout, also where the shell forbids it.
export PYTHONPYCACHEPREFIX := $(CACHE)/pycache
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help build wheel docs demo lint quick test soak bench

help:
	@echo "make demo    migrate a small real pipeline on a private server and show what happened"
	@echo "make test    all tests, with real servers and the real DataJoint clients"
	@echo "make quick   those that need no server, and a real copy on each server; for the desk"
	@echo "make soak    the fuzzer, the wheel, an archive of 5,000,000 objects, every case of the tests that kill things and of generated tables, and the benches with few rows; an hour and a quarter at least"
	@echo "make lint    formatting, clippy, ruff, import-linter, mypy, stubtest"
	@echo "make wheel   a wheel for Python 3.11 and newer, in the cache folder"
	@echo "make docs    the documentation as a site, in the cache folder"
	@echo "make bench   speed against the peers, as a table of ratios"

# Environments of the project and of the real clients, servers, the engine; a second when all are there.
build:
	@$(PYTHON) tests/prepare.py all

wheel: build
	@$(VENV)/bin/maturin build --release --quiet --out $(CACHE)/wheels

# Every link and every name is looked at, and a broken one fails.
docs: build
	@NO_MKDOCS_2_WARNING=1 $(CACHE)/venv-docs/bin/mkdocs build --strict --quiet --site-dir $(CACHE)/docs
	@echo $(CACHE)/docs/index.html

demo:
	@$(PYTHON) tests/prepare.py demo
	@$(PYTHON) tests/demo.py

lint: build
	cargo fmt --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	$(VENV)/bin/ruff format --check python tests benches
	$(VENV)/bin/ruff check python tests benches
	$(VENV)/bin/lint-imports --no-logo --no-cache
	$(VENV)/bin/mypy
	MYPYPATH=python $(VENV)/bin/stubtest datajoint_migrate._core

test: build
	cargo test --quiet --package datajoint-migrate-core
	$(VENV)/bin/python -m pytest $(SPREAD)

quick: build
	$(VENV)/bin/python -m pytest $(SPREAD) -m 'quick and not soak'

# Each test by itself goes to who is free: of two that take an hour none waits for the other.
soak: build
	DJM_OBJECTS=5000000 cargo test --quiet --package datajoint-migrate-core millions
	DJM_SOAK=1 $(VENV)/bin/python -m pytest --numprocesses $(WORKERS) --dist loadgroup --no-loadscope-reorder -m 'soak or not soak' -k 'killed or any_table or any_key or fuzz or wheel or never_stops'
	$(VENV)/bin/python benches/run.py --rows 20000 --files 500 --repeats 1

bench: build
	@$(VENV)/bin/maturin develop --release --quiet
	@$(VENV)/bin/python benches/run.py
