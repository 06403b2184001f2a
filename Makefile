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

# `import monai` asks for the user's name, and the user of a container need not have one.
export USER := $(or $(USER),$(shell id -un 2>/dev/null),user)

PY := $(VENV)/bin/python
BUNDLE_RUN := PYTHONPATH=quiz_bundle $(PY) -m monai.bundle run

# The stamps carry a checksum of what they stand for, so a changed pin installs again and an unchanged one never does.
checksum = $(shell cat $(1) | cksum | cut -d ' ' -f 1)
RUNTIME := $(VENV)/.quiz_bundle-runtime-$(call checksum,requirements.txt)
TOOLS := $(VENV)/.quiz_bundle-tools-$(call checksum,requirements.txt requirements-test.txt)

# MONAI Label needs older packages than the bundle, hence an environment of its own. STUDIES is the folder that it serves
# (and writes its own list and labels to).
LABEL_VENV := .venv-label
LABEL_PY := $(LABEL_VENV)/bin/python
LABEL_APP := labelapp/monaibundle
LABEL_PACKAGES = $(shell $(LABEL_PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
NMS := import torch; [torch.library.define(f"torchvision::{n}", "(Tensor a, Tensor b, float c) -> Tensor") for n in ("nms", "qnms")]
LABEL := $(LABEL_VENV)/.quiz_bundle-label-$(call checksum,requirements-label.txt)
STUDIES := labelapp/studies
PORT := 8000

# MONAI Deploy brings a runtime of its own (Holoscan), which nothing else here should have to carry, and which asks for
# more stack than is usual.
BIG_STACK := ulimit -s 32768 2>/dev/null || true
DEPLOY_VENV := .venv-deploy
DEPLOY_PY := $(DEPLOY_VENV)/bin/python
DEPLOY := $(DEPLOY_VENV)/.quiz_bundle-deploy-$(call checksum,requirements.txt requirements-test.txt requirements-deploy.txt)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint viewer commissioning train weights bundle hub clean label test-label deploy-demo test-deploy test-browser test-cuda

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' Makefile
	@sed -n '3,6s/^#/ /p' Makefile

demo: $(RUNTIME) ## register one real CT pair of known truth with the shipped weights; results in demo/
	PYTHONPATH=quiz_bundle $(PY) -m scripts.checks.demo --output demo $(ARGS)

test: $(TOOLS) ## the whole test suite
	$(PY) -m pytest $(ARGS)

test-cuda: $(TOOLS) ## the tests of what runs on a CUDA device, for those who have one
	$(PY) -m pytest tests/apps/test_cuda.py -m cuda $(ARGS)

lint: $(TOOLS) ## ruff, as pre-commit runs it
	$(PY) -m ruff check . $(ARGS)

viewer: $(RUNTIME) ## NiiVue, so that report.html lets one scroll through the pair
	$(PY) -m pip install --disable-pip-version-check --no-input --no-deps -r requirements-viewer.txt

commissioning: $(RUNTIME) ## TG-132's known shifts and turns on the phantom; table in quiz_bundle/docs/commissioning.md
	$(BUNDLE_RUN) commissioning --bundle_root quiz_bundle --config_file quiz_bundle/configs/commissioning.json \
		--output quiz_bundle/docs/commissioning.md $(ARGS)

train: $(RUNTIME) ## train the shipped network; results in runs/
	$(BUNDLE_RUN) training --bundle_root quiz_bundle --config_file quiz_bundle/configs/train.json $(ARGS)

weights: $(RUNTIME) ## ship a trained state dict: make weights FROM=runs/.../model.pt (nothing else replaces models/model.pt)
	@test -n "$(FROM)" || { echo "make weights: expected FROM=FILE, a trained state dict, found none; name the file to ship." >&2; exit 1; }
	@PYTHONPATH=quiz_bundle $(PY) -m scripts.training.ship "$(FROM)"

bundle: $(RUNTIME) ## the bundle as one archive, as MONAI's model zoo hosts it, in dist/ (docs/zoo.md)
	PYTHONPATH=quiz_bundle $(PY) -m scripts.apps.archive --output dist $(ARGS)

hub: $(RUNTIME) ## the bundle as a folder for Hugging Face's hub, in dist/hub (docs/zoo.md)
	PYTHONPATH=quiz_bundle $(PY) -m scripts.apps.hub $(ARGS)

label: $(LABEL_APP)/main.py ## MONAI Label with the bundle on 127.0.0.1: make label STUDIES=DIR PORT=8000 (docs/label.md)
	mkdir -p labelapp/uploads
	TMPDIR="$(CURDIR)/labelapp/uploads" MONAI_LABEL_SESSION_PATH="$(CURDIR)/labelapp/sessions" \
	MONAI_LABEL_RELOAD_APP_LIB=false $(LABEL_PY) -m monailabel.main start_server --app $(LABEL_APP) \
		--studies "$(STUDIES)" --host 127.0.0.1 --port $(PORT) --conf models quiz --conf zoo_source local \
		--conf sam2 false --conf skip_trainers true

test-label: $(LABEL_APP)/main.py $(TOOLS) ## the tests of MONAI Label, against a real server
	$(PY) -m pytest tests/apps/label -m label $(ARGS)

deploy-demo: $(DEPLOY) ## MONAI Deploy on two pairs of DICOM studies of known truth; results in demo/deploy/
	@$(BIG_STACK); PYTHONPATH=quiz_bundle $(DEPLOY_PY) -m scripts.apps.deploy.demo --output demo $(ARGS)

test-deploy: $(DEPLOY) ## the tests of the MONAI Deploy application, under its SDK
	@$(BIG_STACK); $(DEPLOY_PY) -m pytest tests/apps/deploy -m deploy $(ARGS)

# Chromium is no Python package, so nothing here installs it: CHROMIUM=FILE names one, or one on PATH is taken.
CHROMIUM := $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)

test-browser: $(TOOLS) ## the tests that open a report in Chromium: make test-browser CHROMIUM=FILE, or one on PATH
	@test -n "$(CHROMIUM)" || { echo "make test-browser: expected Chromium on PATH, found none; apt-get install chromium (Debian)," \
		"dnf install chromium (Fedora), snap install chromium (Ubuntu), or CHROMIUM=FILE for a Chrome of your own." >&2; exit 1; }
	CHROMIUM="$(CHROMIUM)" $(PY) -m pytest -m browser $(ARGS)

clean: ## remove caches and the outputs of the demo and the evaluations; runs/ and .venv stay
	rm -rf demo eval dist .pytest_cache .ruff_cache
	find quiz_bundle tests -name __pycache__ -type d -prune -exec rm -rf {} +

# pip comes last when an environment is made: while it is missing, the environment is not whole.
%/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: expected Python >= 3.11, found $$($(PYTHON) --version 2>&1); name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $*

$(RUNTIME): | $(VENV)/bin/pip
	$(PY) -m pip install --disable-pip-version-check --no-input -r requirements.txt
	@touch $@

$(TOOLS): | $(RUNTIME)
	$(PY) -m pip install --disable-pip-version-check --no-input -r requirements.txt -r requirements-test.txt
	-$(PY) -m pip install --disable-pip-version-check --no-input --no-deps -r requirements-viewer.txt  # or its tests are skipped
	@touch $@

$(DEPLOY): | $(DEPLOY_VENV)/bin/pip
	$(DEPLOY_PY) -m pip install --disable-pip-version-check --no-input -r requirements-deploy.txt -r requirements-test.txt
	@touch $@

# The index's torchvision beside a CPU-only torch misses two operators when it is imported; nobody here calls them.
$(LABEL): | $(LABEL_VENV)/bin/pip
	$(LABEL_PY) -m pip install --disable-pip-version-check --no-input -r requirements-label.txt
	$(LABEL_PY) -c 'import torchvision' 2>/dev/null || { echo '$(NMS)' > $(LABEL_PACKAGES)/torchvision_nms.py; \
		echo 'import torchvision_nms' > $(LABEL_PACKAGES)/torchvision_nms.pth; }
	$(LABEL_PY) -c 'import torchvision'
	@touch $@

# The stock app, with the bundle in it as a link: what is served is what lies here.
$(LABEL_APP)/main.py: | $(LABEL)
	$(LABEL_PY) -m monailabel.main apps --download --name monaibundle --output labelapp
	mkdir -p $(LABEL_APP)/model
	ln -sfn ../../../quiz_bundle $(LABEL_APP)/model/quiz
