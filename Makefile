PYTHON ?= python3
BIN := .venv/bin
BENCHMARKS ?= costs fake_quantization kernels networks packed_activations ranges workers search

.PHONY: demo test install lint bench

demo: install  ## search the handwritten digits' network and print a Pareto table
	$(BIN)/hwsearch search

test: install
	$(BIN)/python -m pytest

install: .venv/installed

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install  ## print every benchmark that needs no data; others: make bench BENCHMARKS="judging ptq"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	set -e; for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py; done

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hwsearch needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,lint]'
	touch $@
