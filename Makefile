.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

VENV := .venv
PY := $(VENV)/bin/python
UV := $(VENV)/bin/uv
CODE := mesh services client deploy/local tests tools
# The first Python that is new enough; PYTHON=... chooses another.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

.PHONY: help setup protos lock format lint types unit test demo up down soak bench clean

help:  ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

setup: $(VENV)/.project  ## Make .venv from the locks and write the default embedder's file (repeatable)
	@$(PY) -m gathering_local.embedder

protos: $(VENV)/.project  ## Generate gen/ from protos/, lint, check for breaking changes (BASELINE=1: accept as the released contract)
	@$(PY) -m tools.protos generate
	@$(PY) -m tools.protos lint
	@$(PY) -m tools.protos $(if $(BASELINE),baseline,breaking)

lock: $(VENV)/.uv  ## Write requirements/*.lock anew (UPGRADE=1: newest versions)
	@compile="$(UV) pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url \
		--no-emit-find-links --python-version 3.11 $(if $(UPGRADE),--upgrade) pyproject.toml"; \
	$$compile --extra all --output-file requirements/run.lock; \
	$$compile --extra all --extra dev --constraints requirements/run.lock --output-file requirements/all.lock

format: $(VENV)/.project  ## Format the code and apply safe fixes
	@$(PY) -m ruff check --quiet --fix-only $(CODE)
	@$(PY) -m ruff format $(CODE)

lint: $(VENV)/.project  ## Check format, lint, import rules, contract and generated files
	@$(PY) -m ruff format --check $(CODE)
	@$(PY) -m ruff check $(CODE)
	@$(VENV)/bin/lint-imports --no-logo
	@$(PY) -m tools.protos lint
	@$(PY) -m tools.protos breaking
	@$(PY) -m tools.protos drift

types: $(VENV)/.project  ## Check types (mypy, strict)
	@$(PY) -m mypy $(CODE)

unit: $(VENV)/.project  ## Run the unit tests: no database, seconds
	@$(PY) -m pytest tests/unit -n 2

test: setup lint types  ## Run every check and every tier of tests
	@$(PY) -m pytest tests/unit -n 2
	@$(PY) -m pytest tests/contract tests/integration -n 3 --dist loadfile --no-loadscope-reorder
	@$(PY) -m pytest tests/e2e -n 2 --dist loadfile --no-loadscope-reorder

demo: setup  ## Start the mesh and watch a circle review this code (WORKSPACE=path: another directory)
	@$(VENV)/bin/gathering demo $(if $(WORKSPACE),--workspace $(WORKSPACE))

up: setup  ## Start the mesh on this machine and print how to log in
	@$(VENV)/bin/gathering up

down:  ## Stop the mesh; data stays
	@$(VENV)/bin/gathering down

soak: setup  ## Run the chaos tests: kills under load (two hours; SEED=, KILLS=, REPLICAS=)
	@$(PY) -m pytest tests/chaos -s

bench: setup  ## Measure the mesh beside raw baselines (ONLY=name, QUICK=1; SAVE=1: into docs/benchmarks.md)
	@GRPC_ENABLE_FORK_SUPPORT=0 $(PY) -m tests.load $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick) $(if $(SAVE),--save)

clean:  ## Remove .venv, caches and build output; data of the mesh stays
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.uv:
	@PYTHON='$(PYTHON)' VENV='$(VENV)' tools/bootstrap
	@touch $@

$(VENV)/.lock: $(VENV)/.uv requirements/all.lock
	@echo "setup: installing the locked packages into $(VENV)"
	@$(UV) pip sync --quiet --python $(PY) --compile-bytecode --require-hashes requirements/all.lock
	@touch $@

$(VENV)/.project: $(VENV)/.lock pyproject.toml
	@$(UV) pip install --quiet --python $(PY) --no-deps --no-build-isolation --editable .
	@touch $@
