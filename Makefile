# Two commands: `make demo` and `make test`. Each sets up what it needs. Another
# Python is named by its version: `make test VERSION=3.13`.
SHELL := bash
VERSION := 3.11
VENV := $(if $(filter-out 3.11,$(VERSION)),.venv-$(VERSION),.venv)
BIN := $(VENV)/bin
PY := $(BIN)/python
# A worker a core. Tests of one file share fixtures that take long to make. The
# order of files is that of tests/conftest.py.
PARALLEL := -n auto --dist loadfile --no-loadscope-reorder

# Whatever a framework wants to write stays inside the checkout.
export KERAS_HOME := $(CURDIR)/build/keras
export KERAS_BACKEND := tensorflow
export MPLCONFIGDIR := $(CURDIR)/build/matplotlib
export TMPDIR := $(CURDIR)/build/tmp
# Containers often set it: each of the many processes that the tests and the
# demo start would then compile all of TensorFlow's Python anew, for five seconds,
# and TFX's for fifteen.
unexport PYTHONDONTWRITEBYTECODE
# Silence at the source: TensorFlow's start-up chatter, not its errors.
export TF_CPP_MIN_LOG_LEVEL := 3

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-search wordnet test test-large docs lint style format lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: ## Make .venv from the locked versions (the others call this)
	@mkdir -p build/tmp build/keras
	@bash dev/setup.sh $(VERSION)

demo: ## Train, evaluate, push and serve on the CMU dictionary
	@began=$$(date +%s) && $(MAKE) --no-print-directory setup && \
	  $(PY) -m pipelines.g2p.demo --began $$began

demo-search: ## Train, certify, push and serve a search on WordNet
	@began=$$(date +%s) && $(MAKE) --no-print-directory setup wordnet && \
	  $(PY) -m pipelines.search.demo --began $$began

wordnet: ## Fetch WordNet 3.0 from Debian, without root
	@bash dev/wordnet.sh

# Types are checked beside the tests, and told of after them.
test: style ## Lint, architecture check, types, tests
	@$(BIN)/mypy >build/mypy.log 2>&1 & types=$$!; \
	  $(PY) -m pytest $(PARALLEL); tests=$$?; \
	  wait $$types; types=$$?; cat build/mypy.log; exit $$((tests | types))

test-large: setup ## Also the tests that take minutes
	@$(PY) -m pytest $(PARALLEL) -m 'large or not large'

docs: setup ## Build the pages into build/site
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build

lint: style
	@$(BIN)/mypy

style: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && \
	  $(BIN)/lint-imports

format: setup ## Format and fix what can be fixed
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

# Not after `setup`, which refuses a lock that `setup.py` has outgrown.
lock: ## Resolve constraints/ anew
	@mkdir -p build/tmp
	@bash dev/setup.sh 3.11 tools && bash dev/lock.sh

clean: ## Remove everything that was built
	rm -rf .venv .venv-* build *.egg-info
