# Two commands: `make demo` and `make test`. Each sets up what it needs.
SHELL := bash
PY := .venv/bin/python
# A worker a core. Tests of one file share fixtures that take minutes to make.
PARALLEL := -n auto --dist loadfile

# Whatever a framework wants to write stays inside the checkout.
export KERAS_HOME := $(CURDIR)/build/keras
export KERAS_BACKEND := tensorflow
export MPLCONFIGDIR := $(CURDIR)/build/matplotlib
export TMPDIR := $(CURDIR)/build/tmp
# Silence at the source: TensorFlow's start-up chatter, not its errors.
export TF_CPP_MIN_LOG_LEVEL := 3

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-large lint format lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: ## Make .venv from the locked versions (the others call this)
	@mkdir -p build/tmp build/keras
	@bash dev/setup.sh

demo: ## Train, evaluate, push and serve on the CMU dictionary
	@began=$$(date +%s) && $(MAKE) --no-print-directory setup && \
	  $(PY) -m pipelines.g2p.demo --began $$began

test: setup lint ## Lint, architecture check, types, tests
	@$(PY) -m pytest $(PARALLEL)

test-large: setup ## Also the tests that take minutes
	@$(PY) -m pytest $(PARALLEL) -m 'large or not large'

lint: setup
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && \
	  .venv/bin/lint-imports && .venv/bin/mypy

format: setup ## Format and fix what can be fixed
	@.venv/bin/ruff check --fix . ; .venv/bin/ruff format .

# Not after `setup`, which refuses a lock that `setup.py` has outgrown.
lock: ## Resolve constraints/ anew
	@mkdir -p build/tmp
	@bash dev/setup.sh tools && bash dev/lock.sh

clean: ## Remove everything that was built
	rm -rf .venv build *.egg-info
