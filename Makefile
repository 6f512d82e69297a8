.DEFAULT_GOAL := help
PYTHON ?= python3.11
BIN := .venv/bin

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	@touch .venv/installed

install: .venv/installed ## Create .venv and install the tested versions

demo: .venv/installed ## Run the whole pipeline on the controlled world; writes demo/report.html
	$(BIN)/sightread demo --out demo --overwrite

test: .venv/installed ## Run the default test suite
	$(BIN)/python -m pytest -n 2

test-all: .venv/installed ## Run slow tests too, and those on real data if SIGHTREAD_DATA is set
	$(BIN)/python -m pytest -n 2 -m "not gpu"

test-slow: .venv/installed ## Run the slow tests alone
	$(BIN)/python -m pytest -n 2 -m "slow and not gpu and not realdata"

test-web: .venv/installed ## Test the page in a headless Chromium, if there is one
	$(BIN)/python -m pytest -m web tests/web

check: .venv/installed ## Check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: .venv/installed ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

bench: .venv/installed ## Time search, vokenization, revokenization and the voken loss on this machine
	$(BIN)/python benchmarks/all.py

.PHONY: help install demo test test-all test-slow test-web check docs bench
