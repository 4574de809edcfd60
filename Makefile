# Needs Python 3.11-3.13, git and make; everything else goes into $(VENV). Some tests also want nginx, chromium and
# iproute2, and put OpenStack Swift into ~/.cache/segstream; without them they skip and say so.
#
#   make demo    set up, run the whole pipeline on the embedded world, print the results
#   make test    set up, run all tests (TESTS="tests/shards -k order" to choose)
#   make check   format, lint, types, version = changelog
#   make wheel   build the wheel and use it in an environment of its own, away from here
#   make soak    the long campaigns
#   make clean   remove environments and tool caches; data, runs and results stay
#
# Options: JOBS=1 (models trained side by side)  PYTHON=python3.12  VENV=/path/of/an/environment  TORCH="torch==2.13.0 --index-url URL"

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
TESTS ?=
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)

PIP = "$(VENV)/bin/python" -m pip install --quiet --quiet --disable-pip-version-check
ACTIVATE = PATH="$$(cd "$(VENV)/bin" && pwd):$$PATH"; export PATH
export DVC_NO_ANALYTICS = 1

.PHONY: help demo test check wheel soak clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   //p' Makefile

# A line for every model: its training, then its evaluation. A single stage leaves the locks of all others alone.
TRAIN_AND_EVAL = sed -n -e 's/^eval@\(single-\(.*\)\)$$/train-single@\2 eval@\1/p' \
                        -e 's/^eval@\(union-.*\)$$/train-union@\1 eval@\1/p'
ALONE = dvc --wait-for-lock repro --single-item

# `dvc repro` alone does the same work, one stage after another; the models depend on one another in nothing.
demo: $(VENV)/.demo-ready
	@$(ACTIVATE); \
	if dvc status --quiet >/dev/null 2>&1; then fresh=yes; else fresh=no; echo "==> running the pipeline (dvc.yaml)"; fi; \
	dvc repro shard && \
	dvc stage list --name-only | $(TRAIN_AND_EVAL) | OMP_NUM_THREADS=1 xargs -L 1 -P $(JOBS) $(ALONE) && \
	dvc repro && echo && \
	segstream results --summary results/summary.json && echo && \
	if [ $$fresh = yes ]; then echo "Everything was up to date: nothing was run."; fi && \
	echo "Report: $$(pwd)/results/report.html"

test: $(VENV)/.dev-ready
	@$(ACTIVATE); python -m pytest -m "not soak" $(TESTS)

soak: $(VENV)/.dev-ready
	@$(ACTIVATE); python -m pytest -m soak $(TESTS)

check: $(VENV)/.dev-ready
	@set -e; $(ACTIVATE); \
	echo "==> ruff format --check"; ruff format --check .; \
	echo "==> ruff check"; ruff check .; \
	echo "==> mypy"; mypy; \
	echo "==> version = changelog"; python -m pytest --quiet tests/test_version.py

wheel: $(VENV)/.dev-ready
	@PYTHON="$$(cd "$(VENV)/bin" && pwd)/python" .ci/wheel

clean:
	rm -rf .venv .ci-venv build dist segstream.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

# Each stamp is written last, so an interrupted installation is repeated and a finished one is not.
$(VENV)/.torch-ready:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || { \
	  echo "error: $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo missing); Python 3.11, 3.12 or 3.13 is needed." \
	       "Name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "==> creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear "$(VENV)"
	@echo "==> installing $(TORCH)"
	@$(PIP) $(TORCH)
	@touch "$@"

$(VENV)/.demo-ready: $(VENV)/.torch-ready pyproject.toml
	@echo "==> installing segstream and what the demo needs (a few minutes, once)"
	@$(PIP) -e '.[demo]'
	@touch "$@"

$(VENV)/.dev-ready: $(VENV)/.torch-ready pyproject.toml
	@echo "==> installing segstream and the tools for its tests (a few minutes, once)"
	@$(PIP) -e '.[dev]'
	@touch "$(VENV)/.demo-ready" "$@"
