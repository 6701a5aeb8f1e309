# `make demo` and `make test` need Python 3.11 or 3.12 with pip, and nothing else: each makes its own .venv.
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PYTEST := -n 2 --dist loadgroup

.PHONY: demo docs test test-all costs lint install clean

.venv/installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "jaxrl needs Python 3.11 or newer; write, say, make demo PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --quiet -e ".[test]"
	touch $@

.venv/installed-docs: .venv/installed
	$(BIN)/python -m pip install --quiet -e ".[docs]"
	touch $@

install: .venv/installed

demo: .venv/installed
	$(BIN)/python -m experiments.demo

# the pages of docs and a reference of every public name, in docs/site
docs: .venv/installed-docs
	$(BIN)/python docs/build.py

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

test: .venv/installed-test
	$(BIN)/python -m pytest $(PYTEST)

# also those that rotate (make test runs an eighth of them); NIGHTLY=1 adds the slowest
test-all: .venv/installed-test
	$(BIN)/python -m pytest $(PYTEST) --all $(if $(NIGHTLY),--nightly)

# tests/costs.csv anew: seconds of each test file, and how many programs it may compile
costs: .venv/installed-test
	$(BIN)/python -m pytest $(PYTEST) --all --programs

clean:
	rm -rf .venv runs docs/site
