# `make` lists the commands. Each sets up what it needs first, with only Python >= 3.10 and make on the machine:
# everything is installed into .venv, and an interrupted set-up is mended by running it again.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

# Written when a step of the set-up has ended well; kept inside .venv, so that they vanish with it.
DEPENDENCIES := $(VENV)/.dependencies-installed
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup test lint test-slow docs demo doctor clean rebuild

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@echo "PYTHON=python3.12 chooses the Python, DETECTRON2=path-or-git-url builds Detectron2 from source."

setup: $(READY) ## make .venv with everything the project needs (about 7 GB, some minutes)
	@echo "$(VENV) is ready."

# Threads of several processes would wait for each other's cores.
test: export OMP_NUM_THREADS := 1
# Else each of some hundred processes would compile the package anew.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(READY) lint ## check style and types, then run the tests, on up to four cores
	@echo "Running the tests"
	@$(RUN) -m pytest -n auto --maxprocesses 4 --dist loadscope

lint: $(READY) ## check style, formatting and types; `ruff check --fix` and `ruff format` mend most of it
	@echo "Checking style and types"
	@$(RUN) -m ruff check
	@$(RUN) -m ruff format --check
	@$(RUN) -m pyrefly check --summary=none

test-slow: $(READY) ## run the tests that take minutes
	@echo "Running the slow tests"
	@$(RUN) -m pytest -m slow tests/slow

# -W: a link that leads nowhere, or a page that the index doesn't list, is an error.
docs: $(READY) ## build the site of the documentation into output/docs
	@echo "Building the documentation into output/docs"
	@$(RUN) -m sphinx -W --keep-going -q -b html docs output/docs
	@echo "Open output/docs/index.html"

# The networks are small: two processes of half the cores each are faster than one of all.
CORES := $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
TOGETHER := $(if $(shell command -v nvidia-smi 2>/dev/null),,$(if $(filter-out 1,$(CORES)),--num-processes 2))

DEMO := output/quickstart
SHAPES := datasets/shapes
demo: export DETECTRON2_DATASETS := datasets
demo: $(READY) ## draw a small data set, pretrain on it, train the tiny detector from that, look at it (5 to 9 minutes)
	@echo "1/6 Drawing the shapes data set into $(SHAPES)"
	@$(RUN) -m convmae_det shapes
	@echo "2/6 Pretraining the tiny encoder in $(DEMO)/pretrain"
	@$(RUN) -m convmae_det pretrain --config-file configs/quickstart/pretrain_convmae_tiny_shapes.yaml --resume $(TOGETHER) \
	  OUTPUT_DIR $(DEMO)/pretrain
	@echo "3/6 Drawing what it reconstructs of images that it has not seen"
	@$(RUN) -m convmae_det reconstruct --config-file $(DEMO)/pretrain/config.yaml \
	  --weights $(DEMO)/pretrain/model_final.pth --output $(DEMO)/reconstructions.png $(SHAPES)/val
	@echo "4/6 Training the tiny detector from it in $(DEMO)/mask_rcnn, and evaluating it"
	@$(RUN) -m convmae_det train --config-file configs/quickstart/mask_rcnn_convmae_tiny_shapes.yaml --resume $(TOGETHER) \
	  MODEL.WEIGHTS $(DEMO)/pretrain/model_final.pth OUTPUT_DIR $(DEMO)/mask_rcnn
	@echo "5/6 Drawing its predictions"
	@$(RUN) -m convmae_det predict --config-file $(DEMO)/mask_rcnn/config.yaml --weights $(DEMO)/mask_rcnn/model_final.pth \
	  --annotations $(SHAPES)/annotations/instances_val.json --output $(DEMO)/predictions $(SHAPES)/val
	@echo "6/6 Writing the report of both trainings"
	@$(RUN) -m convmae_det report $(DEMO)
	@$(RUN) -m convmae_det demo-summary $(DEMO)

doctor: ## say what is installed, and how to mend what is wrong
	@if [ -x $(RUN) ]; then $(RUN) tools/doctor.py; else $(PYTHON) tools/doctor.py; fi

clean: ## remove caches and what the demo made; .venv and other outputs stay
	@echo "Removing caches, build leftovers, datasets/shapes, output/docs and output/quickstart"
	@rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis datasets/shapes output/docs output/quickstart
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

# A package without INSTALLER, the mark that pip sets last, was cut off while being installed. Forgetting its metadata
# makes pip install it again.
$(DEPENDENCIES): setup.cfg setup.py pyproject.toml
	@command -v "$(PYTHON)" >/dev/null \
	  || { echo "error: there is no $(PYTHON): install Python 3.10 or newer, or name it: make setup PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "error: $(PYTHON) is older than Python 3.10: name a newer one, for example make setup PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "error: $(PYTHON) lacks venv: install it (Debian, Ubuntu: sudo apt install python3-venv), or name another with PYTHON=" >&2; exit 1; }
	@$(RUN) -c 'import sys, pip._internal; sys.exit(sys.version_info < (3, 10))' 2>/dev/null \
	  || { echo "Making the virtual environment $(VENV)"; "$(PYTHON)" -m venv --clear $(VENV); }
	@for info in $(VENV)/lib/python*/site-packages/*.dist-info; do [ -e "$$info/INSTALLER" ] || rm -rf "$$info"; done
	@echo "Installing the packages that setup.cfg names (PyTorch with CUDA is most of it)"
	@$(RUN) -m pip --disable-pip-version-check install --editable '.[dev]' \
	  || { echo "error: pip could not install the packages, for the reason above: mend it and run make setup again" >&2; exit 1; }
	@touch $@

$(READY): $(DEPENDENCIES) convmae_det/detectron2_installation.py
	@echo "Looking for Detectron2"
	@$(RUN) tools/install_detectron2.py
	@touch $@

# A source that the user names is looked at each time; it is built only if it is not the one already installed.
ifneq ($(DETECTRON2),)
$(READY): rebuild
endif
rebuild:
