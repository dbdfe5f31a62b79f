PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install demo test check format

help:  ## Say what can be made
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*##/\t/'

install: .venv/installed  ## Make .venv and install the pipeline and its tools

.venv/installed: pyproject.toml
	@echo "Installing into .venv: a few minutes, once."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: install  ## Train an energy-based model on handwritten digits through Ray (two minutes)
	$(BIN)/python -m jobs.short_run digits

test: install  ## Run all tests
	$(BIN)/python -m pytest

check: install  ## Lint, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## Format, and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
