# `make demo` and `make test` need Python >= 3.11, git and a package index, and nothing else; `make help` lists the rest.
#
# PYTHON=python3.12   the interpreter that makes the environment (default: python3)
# VENV=DIR            an environment of your own in place of .venv: a torch 2.13.0 that is already in it, CPU or CUDA,
#                     stays; the other pinned requirements are installed into it
# ARGS='...'          handed on to the program a target runs: `make test ARGS='-k rigid'`, `make train ARGS='--seed 1'`

PYTHON ?= python3
# A plain assignment: VENV on make's command line wins, a stray VENV in the shell's environment does not.
VENV := .venv
ARGS :=
FROM :=

PY := $(VENV)/bin/python
WEIGHTS := quiz_bundle/models/model.pt
BUNDLE_RUN := PYTHONPATH=quiz_bundle $(PY) -m monai.bundle run

# The stamps carry a checksum of what they stand for, so a changed pin installs again and an unchanged one never does.
checksum = $(shell cat $(1) | cksum | cut -d ' ' -f 1)
RUNTIME := $(VENV)/.quiz_bundle-runtime-$(call checksum,requirements.txt)
TOOLS := $(VENV)/.quiz_bundle-tools-$(call checksum,requirements.txt requirements-test.txt)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint train weights clean

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile
	@sed -n '3,6s/^#/ /p' Makefile

demo: $(RUNTIME) ## register one real CT pair of known truth with the shipped weights; results in demo/
	PYTHONPATH=quiz_bundle $(PY) -m scripts.demo --output demo $(ARGS)

test: $(TOOLS) ## the whole test suite
	$(PY) -m pytest $(ARGS)

lint: $(TOOLS) ## ruff, as pre-commit runs it
	$(PY) -m ruff check . $(ARGS)

train: $(RUNTIME) ## train the shipped network; results in runs/
	$(BUNDLE_RUN) training --bundle_root quiz_bundle --config_file quiz_bundle/configs/train.json $(ARGS)

weights: ## ship a trained state dict: make weights FROM=runs/.../model.pt (nothing else replaces models/model.pt)
	@test -f "$(FROM)" || { echo "make weights: expected FROM=FILE, a trained state dict, found '$(FROM)'; name the file to ship." >&2; exit 1; }
	cp "$(FROM)" $(WEIGHTS).part
	mv $(WEIGHTS).part $(WEIGHTS)
	sha256sum $(WEIGHTS)

clean: ## remove caches and the outputs of the demo and the evaluations; runs/ and .venv stay
	rm -rf demo eval dist .pytest_cache .ruff_cache
	find quiz_bundle tests -name __pycache__ -type d -prune -exec rm -rf {} +

# pip comes last when an environment is made: while it is missing, the environment is not whole.
$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: expected Python >= 3.11, found $$($(PYTHON) --version 2>&1); name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): | $(VENV)/bin/pip
	$(PY) -m pip install --disable-pip-version-check --no-input -r requirements.txt
	@touch $@

$(TOOLS): | $(RUNTIME)
	$(PY) -m pip install --disable-pip-version-check --no-input -r requirements.txt -r requirements-test.txt
	@touch $@
