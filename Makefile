# `make demo` and `make test` set up and run; `make check` and `make bench` expect the set-up.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check bench setup lint types tests clean

demo: setup
	$(BIN)/edgese demo

test: setup check

check: lint types tests

bench:
	$(BIN)/python tests/bench/conversion_time.py
	$(BIN)/python tests/bench/integer_speed.py
	$(BIN)/python tests/bench/qat_speed.py
	$(BIN)/python tests/bench/selection.py
	$(BIN)/python tests/bench/training_recipes.py
	$(BIN)/python tests/bench/fuzz.py
	$(BIN)/python tests/bench/kills.py
	$(BIN)/python tests/bench/integer_accuracy.py --data "$(EDGESE_DATA)/imagenet-ccby/labels.csv"
	$(BIN)/python tests/bench/program_identity.py --data "$(EDGESE_DATA)/imagenet-ccby/labels.csv"

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all,imagenet,dev]'
	touch $@

lint:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types:
	$(BIN)/mypy

tests:
	$(BIN)/pytest

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache dist
