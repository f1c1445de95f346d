# The same words at the desk and in CI. Everything that is built or fetched lies in one cache folder outside the checkout.
CACHE ?= $(or $(DATAJOINT_MIGRATE_CACHE),$(HOME)/.cache/datajoint-migrate)
PYTHON ?= python3
VENV := $(CACHE)/venv-dev
export DATAJOINT_MIGRATE_CACHE := $(CACHE)
export CARGO_TARGET_DIR := $(CACHE)/target
export VIRTUAL_ENV := $(VENV)

.PHONY: help environments build wheel docs demo lint test soak bench

help:
	@echo "make demo    migrate a small real pipeline on a private server and show what happened"
	@echo "make test    all tests, with real servers and the real DataJoint clients"
	@echo "make soak    the tests that kill things, of generated tables and of the fuzzer, every case of them; two hours or more"
	@echo "make lint    formatting, clippy, ruff, mypy, stubtest"
	@echo "make wheel   a wheel for Python 3.11 and newer, in the cache folder"
	@echo "make docs    the documentation as a site, in the cache folder"
	@echo "make bench   speed against the peers, as a table of ratios"

# Virtual environments of the project and of the real clients, and the servers; nothing when all are there.
environments:
	@$(PYTHON) tests/environments.py > /dev/null
	@$(PYTHON) tests/servers.py install mysql mariadb
	@$(PYTHON) tests/s3.py

build: environments
	@$(VENV)/bin/maturin develop --release --quiet

wheel: environments
	@$(VENV)/bin/maturin build --release --quiet --out $(CACHE)/wheels

# Every link and every name is looked at, and a broken one fails.
docs: environments
	@NO_MKDOCS_2_WARNING=1 $(CACHE)/venv-docs/bin/mkdocs build --strict --quiet --site-dir $(CACHE)/docs
	@echo $(CACHE)/docs/index.html

demo: build
	@$(PYTHON) tests/demo.py

lint: build
	cargo fmt --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	$(VENV)/bin/ruff format --check python tests benches
	$(VENV)/bin/ruff check python tests benches
	$(VENV)/bin/mypy
	MYPYPATH=python $(VENV)/bin/stubtest datajoint_migrate._core

test: build
	cargo test --quiet --package datajoint-migrate-core
	$(VENV)/bin/python -m pytest

soak: build
	DJM_SOAK=1 $(VENV)/bin/python -m pytest -k 'killed or any_table or fuzz'

bench: build
	@$(VENV)/bin/python benches/run.py
