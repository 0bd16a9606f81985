# crossprop: `make help` lists what there is. GNU make 3.81 (macOS) is enough.
SHELL := /bin/bash
VENV ?= .venv
PYTHON ?=
LOCK ?= requirements.lock
PORT ?= 5000
STAGE ?=
PYTEST_ARGS ?=
BENCHMARKS ?= elemnet_training worker_scaling tracking_store physical_attributes
BIN := $(VENV)/bin
# Scripts of an environment name its place: in a moved or copied checkout they start what lies at the old one.
MOVED := $(shell test ! -e '$(BIN)/dvc' || grep -qF '$(realpath $(BIN))/' '$(BIN)/dvc' || echo moved)

# Nothing calls home, and child processes (DVC stages, MLflow projects) find this environment first.
export PATH := $(abspath $(BIN)):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := 1
export DVC_STUDIO_OFFLINE := 1
export RAY_USAGE_STATS_ENABLED := 0
export TF_CPP_MIN_LOG_LEVEL ?= 3
export MPLBACKEND := Agg
export PYTHONUNBUFFERED := 1

.PHONY: help setup setup-dev moved repro test lint test-slow ui bench docs lock clean

help: ## this table
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo "Variables: PYTHON=/path/to/python3.12  LOCK=requirements-gpu.lock  STAGE='pretrain transfer@all'  PORT=5001"

setup: $(VENV)/.installed-$(LOCK) ## create .venv from LOCK (requirements.lock)

setup-dev: $(VENV)/.installed-requirements-dev.lock ## the same with what tests, service and dashboard need

# A stamp is as new as the lock it installed, so a second call has nothing to do. Every lock holds the
# core lock's packages in the same versions: whichever is installed, the core is.
$(VENV)/.installed-%: % pyproject.toml $(MOVED)
	@VENV='$(VENV)' PYTHON='$(PYTHON)' tools/setup.sh $*
	@touch $(VENV)/.installed-requirements.lock $@

moved:

repro: setup ## set up and run the study of params.yaml (only what changed)
	$(BIN)/dvc repro $(STAGE)

test: lint ## set up and run linters, types, layers and the default tests
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: setup-dev ## the checks without the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-slow: setup-dev ## the slow tests: whole pipelines, kills, full disks
	$(BIN)/python -m pytest -m "slow and not gpu and not network" $(PYTEST_ARGS)

ui: setup ## open the MLflow UI on the results
	@$(BIN)/crossprop ui --port $(PORT)

bench: setup-dev ## the side-by-side measurements that need no finished study
	@for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python "benchmarks/$$name.py" || exit 1; done

docs: setup-dev ## build the documentation into docs/_build/html (warnings are errors, links are checked)
	$(BIN)/sphinx-build --fail-on-warning --keep-going -q -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

lock: setup-dev ## write requirements*.lock anew after a change of pyproject.toml
	$(BIN)/python tools/lock.py

clean: ## remove caches of tools; keeps .venv, data, models and results
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find src tests pipelines tools benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
