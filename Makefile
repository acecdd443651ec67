# Each target makes the environment that it needs. A second run installs nothing again, unless
# pyproject.toml or the version of Python has changed.

PYTHON ?= python3
SUPPORTED := 3.10 3.11 3.12 3.13
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)

VENV := .venv
JAX_VENV := .venv-jax
TORCH_VENV := .venv-torch
RUN := $(VENV)/bin/python -m
PYTEST := $(RUN) pytest -n 2 --dist worksteal
# The environment that a rule's stamp lies in, without and with its Python.
HERE = $(@D)
PIP_INSTALL = $(HERE)/bin/python -m pip install --disable-pip-version-check --editable

# Errors only: TensorFlow's start-up notes would hide what the targets print.
export TF_CPP_MIN_LOG_LEVEL ?= 2
# Material's news about its successor are for maintainers, not for every build.
export NO_MKDOCS_2_WARNING ?= 1

.NOTPARALLEL:
.PHONY: help demo test test-jax test-torch check bench format lint types docs build clean

help:  ## Show this table
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.plot  ## Run the quickstart on real images; pictures go to quickstart_output/
	$(VENV)/bin/python examples/quickstart.py

test: $(VENV)/.dev  ## Run the tests and doctests but for slow ones, in two processes
	$(PYTEST) -m "not slow"

test-jax: $(JAX_VENV)/.jax  ## Run the same on Keras's JAX backend
	KERAS_BACKEND=jax $(JAX_VENV)/bin/python -m pytest -n 2 --dist worksteal -m "not slow"

test-torch: $(TORCH_VENV)/.torch  ## Run the same on Keras's PyTorch backend
	KERAS_BACKEND=torch $(TORCH_VENV)/bin/python -m pytest -n 2 --dist worksteal -m "not slow"

check: lint types docs build  ## Run everything that a change must pass; all tests come last
	$(PYTEST) --cov

bench: $(VENV)/.plot  ## Measure speed, memory and accuracy
	$(VENV)/bin/python benchmarks/run.py $(BENCH)

format: $(VENV)/.dev  ## Rewrite the code in the house format
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

lint: $(VENV)/.dev  ## Check format and lint
	$(RUN) ruff format --check .
	$(RUN) ruff check .

types: $(VENV)/.dev  ## Check types
	$(RUN) mypy

docs: $(VENV)/.docs $(VENV)/.dev  ## Run the code of all pages and build them, with its results, in site/
	$(VENV)/bin/python tools/build_pages.py
	$(RUN) mkdocs build --strict --quiet

build: $(VENV)/.dev  ## Build the source distribution and the wheel in dist/
	rm -rf build/lib build/bdist.* dist
	$(RUN) build

clean:  ## Remove environments, caches and everything built
	rm -rf $(VENV) $(JAX_VENV) $(TORCH_VENV) build dist site src/*.egg-info .coverage
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find src tests examples benchmarks tools -name __pycache__ -type d -prune -exec rm -rf {} +

# An empty stamp is written after its installation, so a failed one is tried again.
%/.plot: %/.python-$(VERSION) pyproject.toml
	$(PIP_INSTALL) ".[plot]"
	@touch $@

%/.dev: %/.python-$(VERSION) pyproject.toml
	$(PIP_INSTALL) ".[dev]"
	@touch $@

%/.docs: %/.python-$(VERSION) pyproject.toml
	$(PIP_INSTALL) ".[docs]"
	@touch $@

%/.jax: %/.python-$(VERSION) pyproject.toml
	$(PIP_INSTALL) ".[dev,jax]"
	@touch $@

%/.torch: %/.python-$(VERSION) pyproject.toml
	$(PIP_INSTALL) ".[dev,torch]"
	@touch $@

%/.python-$(VERSION):
	$(if $(filter $(VERSION),$(SUPPORTED)),,$(error tlclassify needs one of Python $(SUPPORTED); \
	'$(PYTHON)' $(if $(VERSION),is Python $(VERSION),does not run). \
	Name another one: make PYTHON=python3.11 $(MAKECMDGOALS)))
	$(PYTHON) -m venv --clear $(HERE)
	@touch $@

.PRECIOUS: %/.python-$(VERSION)
