# `make` lists the targets. Everything installs into .venv; a lock that has not changed installs once.

VENV ?= .venv
WORKERS ?= 2
BACKENDS ?= jax tensorflow torch
ARGS ?=

# The first interpreter that is new enough and can make environments; `make PYTHON=...` names another.
NEW_ENOUGH = import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3 python; do \
	$$python -c '$(NEW_ENOUGH)' >/dev/null 2>&1 && { echo $$python; break; }; done)

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
BASE = $(VENV)/base.installed
FULL = $(VENV)/full.installed
PROJECT = pyproject.toml setup.py

# Two test processes on two cores: one thread each, or they wait for one another. And tests compile
# far longer than they compute: XLA is not to optimise.
FOR_TESTS = OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 \
	XLA_FLAGS="--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0 \
	--xla_llvm_disable_expensive_passes=true $(XLA_FLAGS)"
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help demo test lint format docs bench wheel lock clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

demo: $(BASE) ## Train MISA three ways on generated data and print the table.
	KERAS_BACKEND=$${KERAS_BACKEND:-tensorflow} $(BIN)/keras-m3s demo $(ARGS)

test: $(FULL) ## Run the tests on JAX, TensorFlow and PyTorch; ARGS goes to pytest.
	@status=0; for backend in $(BACKENDS); do \
		echo "== KERAS_BACKEND=$$backend"; \
		$(FOR_TESTS) KERAS_BACKEND=$$backend \
			$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal --durations 10 $(ARGS) || status=1; \
	done; exit $$status

lint: $(FULL) ## Check style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(FULL) ## Mend style where that can be done by itself.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(FULL) ## Build the docs site into site/.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(FULL) ## Run the benchmarks, one after the other.
	@for script in benchmarks/*.py; do \
		echo "== $$script"; PYTHONPATH=. $(BIN)/python $$script $(ARGS) || exit 1; \
	done

wheel: $(FULL) ## Build dist/keras_m3s-*.whl.
	rm -rf build dist
	$(BIN)/python -m build --wheel --no-isolation

lock: ## Resolve the newest versions into both lock files.
	$(call require_python)
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/pip install . && $(call freeze,requirements-base.lock)
	build/lock/bin/pip install '.[jax,torch,text,report,dask,export,docs,dev]' && $(call freeze,requirements.lock)

clean: ## Remove what make made: .venv, build, dist, site and caches. Runs stay.
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The header of a lock file stays; a build of torch for one kind of machine is no version of its own.
freeze = { grep '^\#' $(1); build/lock/bin/pip list --format freeze --exclude keras-m3s --exclude pip \
	| sed 's/+[a-z0-9]*$$//'; } > build/lock/new && mv build/lock/new $(1)

require_python = @test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 with venv must be installed." \
	"Found: $$(python3 --version 2>&1 || true). Name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }

$(BIN)/python:
	$(call require_python)
	$(PYTHON) -m venv $(VENV)

$(BASE): requirements-base.lock $(PROJECT) | $(BIN)/python
	@test -e $(FULL) && test ! $(FULL) -ot requirements-base.lock || $(PIP) install --quiet -r requirements-base.lock
	$(PIP) install --quiet --no-build-isolation --no-deps --editable .
	@touch $@

$(FULL): requirements.lock $(PROJECT) | $(BIN)/python
	$(PIP) install --quiet -r requirements.lock
	$(PIP) install --quiet --no-build-isolation --no-deps --editable .
	@touch $@
