# `make demo` (the main job), `make app` (a page in the browser) and `make test` (the suite
# on the three backends) set up everything themselves; only Python 3.11+, git and
# make must be there.

PYTHON ?= python3
BACKENDS ?= jax torch tensorflow
# A file of tests at a time in each: compiling, most of them keep one core busy.
WORKERS ?= 2
BIN := .venv/bin
PYTEST = $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
# Where a worker crashes, pytest ends and says so: with another in its place it would wait
# for ever, for the files that the first one had.
PYTEST += --max-worker-restart 0
# Accelerators are the user's choice, not a default of tests and demo.
export JAX_PLATFORMS ?= cpu
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo app test test-slow lint docs lock bench clean

LOCKED := $(BIN)/pip install --quiet --require-hashes --no-deps --requirement

.venv/installed: $(wildcard requirements*.lock) pyproject.toml
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --upgrade pip==26.3
	# First, or pip would prefer the build of PyPI, which brings 5 GB of CUDA.
	$(LOCKED) requirements-cpu.lock 2> /dev/null || \
	    echo "There is no CPU build of PyTorch at hand: that of PyPI is installed"
	$(LOCKED) requirements.lock
	$(BIN)/pip check > /dev/null || $(LOCKED) requirements-cuda.lock
	$(BIN)/pip check
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@

demo: .venv/installed
	KERAS_BACKEND=$${KERAS_BACKEND:-jax} $(BIN)/python examples/gallery.py
	KERAS_BACKEND=$${KERAS_BACKEND:-jax} $(BIN)/python examples/demo.py

# The page in the browser, until Ctrl-C.
app: .venv/installed
	KERAS_BACKEND=$${KERAS_BACKEND:-jax} $(BIN)/makeavid app

test: .venv/installed $(BACKENDS:%=test-%)

# What takes long: whole trainings, several processes, files of gigabytes.
test-slow: .venv/installed $(BACKENDS:%=slow-%)

test-%: .venv/installed
	KERAS_BACKEND=$* $(PYTEST) -m "not slow"

# TensorFlow keeps every program that it has compiled, 10 GB in each process by the end:
# two parts, one after the other.
HEAVY := $(addprefix tests/keras_makeavid/, layers models tasks)
test-tensorflow: .venv/installed
	KERAS_BACKEND=tensorflow $(PYTEST) -m "not slow" $(HEAVY)
	KERAS_BACKEND=tensorflow $(PYTEST) -m "not slow" tests $(HEAVY:%=--ignore=%)

slow-%: .venv/installed
	KERAS_BACKEND=$* $(PYTEST) -m slow

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p keras_makeavid -p weights_tools

# Guides and API reference in site/; every warning is an error.
docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# requirements.lock anew; `pip install uv` has to be on the PATH.
lock:
	$(PYTHON) .ci/lock.py $(UPGRADE)

bench: .venv/installed
	for backend in $(BACKENDS); do \
	    for name in forward train_step group_norm import_time generate; do \
	        KERAS_BACKEND=$$backend $(BIN)/python benchmarks/$$name.py || exit 1; \
	    done; \
	done

clean:
	rm -rf .venv demo site
