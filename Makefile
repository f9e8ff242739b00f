# Short names for what CONTRIBUTING.md describes. PYTHON chooses the interpreter.
PYTHON ?= python
FAST = not slow and not distributed and not gpu

.PHONY: install test check lint bench

install:  ## this project, editable, with test and developer tools
	$(PYTHON) -m pip install -e ".[dev]"

test:  ## all tests that need no GPU
	$(PYTHON) -m pytest -m "not gpu"

check:  ## before every commit: format, lint, types, fast tests
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy trainers rollout rewards inference tests
	$(PYTHON) -m pytest -q -m "$(FAST)"

lint:  ## recipes: format, keys, types, combinations
	ramify lint recipes/*.yaml

bench:  ## every script of benches/, one after another
	for script in benches/*.py; do $(PYTHON) $$script || exit 1; done
