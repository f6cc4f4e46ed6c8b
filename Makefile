# Works on a machine with Python 3.11+, make and git. `make demo` and `make test` set up .venv by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Threads of numerical libraries fight over two cores; one each is faster here.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test check fmt lint types imports workflows cov bench site clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*?## ' $(MAKEFILE_LIST) | awk -F ':.*?## ' '{printf "  make %-9s %s\n", $$1, $$2}'

$(BIN)/promptops: pyproject.toml promptops/core/version.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "promptops needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: $(BIN)/promptops
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test,check]'
	@touch $@

demo: $(BIN)/promptops ## Evaluate the golden data offline and catch a planted regression
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash docs/demo.sh

test: $(VENV)/.dev ## Run all tests
	$(BIN)/pytest -n 2

check: $(VENV)/.dev fmt lint types imports workflows ## Everything that needs no test run: format, lint, types, layers
	$(BIN)/promptops lint

fmt: $(VENV)/.dev ## Check the format (make fmt FIX=1 repairs it)
	$(BIN)/ruff format $(if $(FIX),,--check) .

lint: $(VENV)/.dev ## Lint the code
	$(BIN)/ruff check $(if $(FIX),--fix) .

types: $(VENV)/.dev ## Check the types
	$(BIN)/mypy

imports: $(VENV)/.dev ## Check that imports point down the layers
	$(BIN)/lint-imports

workflows: $(VENV)/.dev ## Check the workflows for what an attacker could use
	$(BIN)/zizmor --offline --quiet --no-progress .github

cov: $(VENV)/.dev ## Measure test coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run -p -m pytest
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

bench: $(VENV)/.dev ## Measure speed and memory against reference loops
	$(BIN)/python -m benchmarks

site: $(VENV)/.dev ## Build the documentation as a site in .site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict -f docs/site/mkdocs.yml

clean: ## Remove the environment and caches
	rm -rf $(VENV) .site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
