# `make` lists the targets. Everything installs into .venv; a lock that has not changed installs once.

VENV ?= .venv
WORKERS ?= 2
BACKENDS ?= jax tensorflow torch
ARGS ?=
SECONDS ?= 60

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
# far longer than they compute: XLA is not to optimise, nor to fuse by way of MLIR.
FOR_TESTS = OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 \
	XLA_FLAGS="--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0 \
	--xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false $(XLA_FLAGS)"
export TF_CPP_MIN_LOG_LEVEL ?= 2

empty :=
space := $(empty) $(empty)
comma := ,

.PHONY: help demo test test-oldest test-newest coverage fuzz lint format docs bench bench-gpu wheel lock clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

demo: $(BASE) ## Train MISA three ways on generated data and print the table.
	KERAS_BACKEND=$${KERAS_BACKEND:-tensorflow} $(BIN)/keras-m3s demo $(ARGS)

test: $(FULL) ## Run the tests on JAX, TensorFlow and PyTorch; ARGS goes to pytest.
	@status=0; for backend in $(BACKENDS); do \
		echo "== KERAS_BACKEND=$$backend"; \
		$(FOR_TESTS) KERAS_BACKEND=$$backend \
			$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal --durations 10 $(ARGS) || status=1; \
	done; exit $$status

# All tests on PyTorch; then those of what only JAX or TensorFlow runs, added to the same figures.
COVERED = env $(FOR_TESTS) $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal --cov
coverage: $(FULL) ## Run the tests and say which lines of the package none reaches.
	KERAS_BACKEND=torch KERAS_M3S_ALL_TESTS=1 $(COVERED) --cov-report= --cov-fail-under=0 $(ARGS)
	KERAS_BACKEND=tensorflow $(COVERED) --cov-append --cov-report= --cov-fail-under=0 tests/meta tests/test_export.py
	KERAS_BACKEND=jax $(COVERED) --cov-append --cov-report term tests/meta tests/test_recurrent.py tests/test_together.py

test-oldest: build/oldest/installed ## Run a selection of tests with the oldest versions that are allowed.
	$(call selection,build/oldest)

test-newest: build/newest/installed ## The same with the newest there are now.
	$(call selection,build/newest)

fuzz: $(FULL) ## Read damaged files for SECONDS, 60 by default.
	KERAS_BACKEND=torch OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.fuzz --seconds $(SECONDS) $(ARGS)

lint: $(FULL) ## Check style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(FULL) ## Mend style where that can be done by itself.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# `KERAS_M3S_NOTEBOOK_DATA=FOLDER make docs` runs the notebooks on the real data in FOLDER.
docs: $(FULL) ## Build the docs site into site/; its notebooks run, which takes a minute or two.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(FULL) ## Run the benchmarks and write benchmarks/RESULTS.md; ARGS go to each.
	$(BIN)/python -m benchmarks $(ARGS)

bench-gpu: $(FULL) ## The same with JAX and PyTorch on a GPU, to benchmarks/RESULTS-gpu.md.
	$(BIN)/python -m benchmarks --gpu $(ARGS)

wheel: $(FULL) ## Build dist/keras_m3s-*.whl.
	rm -rf build dist
	$(BIN)/python -m build --wheel --no-isolation

lock: ## Resolve the newest versions into both lock files.
	$(call require_python)
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/pip install . && $(call freeze,requirements-base.lock)
	build/lock/bin/pip install '.[jax,torch,text,features,dask,ray,export,tensorboard,tables,docs,dev]' && $(call freeze,requirements.lock)

	build/lock/bin/pip install uv && build/lock/bin/uv pip compile pyproject.toml --python-version 3.11 --upgrade \
		--resolution lowest-direct $(addprefix --extra ,$(TRIED)) --no-header --no-annotate --quiet \
		--output-file build/lock/oldest && { grep '^#' requirements-oldest.lock; \
		grep -vE '^($(NOT_THERE))' build/lock/oldest | sed 's/+[a-z0-9]*$$//'; } > build/lock/new && mv build/lock/new requirements-oldest.lock

clean: ## Remove what make made: .venv, build, dist, site and caches. Runs stay.
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# At both ends of what pyproject.toml allows: what depends on other packages most.
TRIED = jax torch text dask export tensorboard dev
NOT_THERE = cuda|identify|mypy|nodeenv|nvidia|pre-commit|ruff|triton|virtualenv
SELECTION ?= tests/test_cli.py tests/test_data.py tests/test_training.py tests/test_metrics.py tests/test_missing.py \
	tests/test_prediction.py tests/test_export.py tests/test_report.py tests/test_own_data.py \
	tests/meta/test_closed_forms.py tests/test_contract.py
selection = @status=0; for backend in $(BACKENDS); do echo "== $(1), KERAS_BACKEND=$$backend"; \
	$(FOR_TESTS) KERAS_BACKEND=$$backend $(1)/bin/python -m pytest -q -n $(WORKERS) --dist worksteal \
	-p no:cacheprovider $(SELECTION) $(ARGS) || status=1; done; exit $$status

# The header of a lock file stays; a build of torch for one kind of machine is no version of its own.
freeze = { grep '^\#' $(1); build/lock/bin/pip list --format freeze --exclude keras-m3s --exclude pip \
	| sed 's/+[a-z0-9]*$$//'; } > build/lock/new && mv build/lock/new $(1)

require_python = @test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 with venv must be installed." \
	"Found: $$(python3 --version 2>&1 || true). Name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }

build/oldest/installed: requirements-oldest.lock $(PROJECT)
	$(call require_python)
	$(PYTHON) -m venv build/oldest
	build/oldest/bin/pip install --quiet -r requirements-oldest.lock
	build/oldest/bin/pip install --quiet --no-build-isolation --no-deps --editable .
	@touch $@

build/newest/installed: $(PROJECT)
	$(call require_python)
	$(PYTHON) -m venv build/newest
	build/newest/bin/pip install --quiet --upgrade --editable '.[$(subst $(space),$(comma),$(TRIED))]'
	@touch $@

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
