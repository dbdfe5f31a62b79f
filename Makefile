PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install demo test test-slow test-faults test-cluster check format bench bench-peers bench-gpu

help:  ## Say what can be made
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/'

install: .venv/installed  ## Make .venv and install the pipeline and its tools

.venv/installed: pyproject.toml
	@echo "Installing into .venv: a few minutes, once."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: install  ## Train an energy-based model on handwritten digits through Ray (two minutes)
	$(BIN)/python -m jobs.short_run digits-K40

test: install  ## Run the fast tests (six minutes on two cores)
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow"

test-slow: install  ## Run the slow tests, with shapes and types checked everywhere (half an hour)
	EBM_CHECK_SHAPES=1 $(BIN)/python -m pytest -n 2 --dist loadgroup -m slow

test-faults: install  ## Kill actors, learners, drivers and nodes at random, again and again (half an hour)
	$(BIN)/python -m pytest tests/faults

test-cluster: install  ## Slurm, and clusters of several hosts on this machine: links cut, machines lost (as root)
	tests/cluster/install.sh
	$(BIN)/python -m pytest tests/cluster

bench-peers: install  ## Install what the benchmarks compare with
	$(BIN)/python -m pip install --quiet torchebm ebmkit

bench: install  ## Measure speed and memory, on a machine that does nothing else (half an hour)
	$(BIN)/python -m benchmarks

bench-gpu: install  ## Run tests and benchmarks on this machine's GPU, and write one report
	$(BIN)/python -m benchmarks.gpu --out gpu-report.json

check: install  ## Lint, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## Format, and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
