# make train [BACKEND=torch|jax] [PRESET=efficient] [ARGS="--epochs 1"]   train, with one wing
# make test       every capability, with both wings, in minutes       make check   ruff and pyright
# make test-slow  the rest: whole trainings, wide tables, launchers, mistakes made on purpose
# make bench      what the wings cost, side by side      make setup   install everything
# make mutants    mistakes made on purpose, each of which the ladder must catch
# make ports      ports with a fault, each of which diff must name, and right ones
# make gpu        rung 8 of the ladder, TF32, bfloat16, noise and speed, where there is CUDA
# make faults     kills, full disks and altered files, of which nothing may be lost
# make fuzz       100,000 altered files, which every reader must refuse or read rightly
# make release-check   the wheel, installed with each extra and used from an empty folder
# make stubs      the routings' types, after a new one
# make docs       the documentation site, in site/; SITE=zensical with its maker's successor
# make soak       memory and open files over 2,000 steps
#
# All of it lives in .venv, made when needed with PYTHON (3.11 or newer) and the versions of
# constraints.txt. PIP_FLAGS reaches pip: on Linux, torch as pip finds it holds gigabytes of CUDA
# libraries, and PIP_FLAGS="--extra-index-url URL", with the URL that pytorch.org gives for the
# CPU, avoids them. PYTEST_FLAGS reaches pytest, which has a worker of one thread on every core.

BACKEND ?= torch
PRESET ?=
PYTHON ?= python3
PIP_FLAGS ?=
ARGS ?=
SITE ?= mkdocs
PYTEST_FLAGS ?= -n auto --dist loadfile --no-loadscope-reorder

BIN := .venv/bin
EXTRAS := torch jax dev
# What `make train` installs besides a framework; dev holds it too.
PICTURES := .venv/installed-figures
# What `make docs` installs besides all the others.
PAGES := .venv/installed-docs

.PHONY: setup train test test-slow check bench mutants ports faults fuzz soak gpu
.NOTPARALLEL:

setup: $(EXTRAS:%=.venv/installed-%)

train: .venv/installed-$(BACKEND) $(PICTURES)
	@echo 'By default: 3 epochs of 5,000 digits, 2 to 4 minutes on two cores, then pictures. Ctrl-C saves.'
	$(BIN)/python train.py --backend $(BACKEND) $(PRESET:%=--preset %) $(ARGS)

# JAX's 64-bit types are a switch of the whole process, so the float64 tests have one of their own.
test: WHICH = not slow
test-slow: WHICH = slow
test test-slow: setup
	@status=0; \
	$(BIN)/python -m pytest -m "$(WHICH) and not float64" $(PYTEST_FLAGS) || status=1; \
	$(BIN)/python -m pytest -m "$(WHICH) and float64" $(PYTEST_FLAGS) || status=1; \
	exit $$status

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

# Every deliberate mistake in turn: the ladder must catch and name each.
mutants: setup
	cd tests/labs && PYTHONPATH=.:.. ../../$(BIN)/python -m mutants ../../docs/measured/mutants.md

# Ports of networks, right and wrong; some need equinox, torchvision or transformers as well.
ports: setup
	cd tests/labs && PYTHONPATH=.:.. ../../$(BIN)/python -m ports ../../docs/measured/ports.md

# Some minutes each; they stop by themselves and touch nothing but a temporary folder.
faults fuzz soak: setup
	cd tests/labs && PYTHONPATH=.:.. ../../$(BIN)/python -m $@ $(ARGS) ../../docs/measured/reliability.md

# What type checkers and editors know of the routings, after a new one.
.PHONY: stubs
stubs: setup
	$(BIN)/python tests/stubs.py

# Fresh environments, gigabytes of them for a while; ARGS="torch" tries one extra alone.
.PHONY: release-check
release-check: setup
	cd tests/labs && PIP_FLAGS="$(PIP_FLAGS)" PYTHONPATH=.:.. ../../$(BIN)/python -m release $(ARGS)

# README, docs/, the notebook, which is run, and the docstrings; strict and without a network.
# Zensical is installed by hand: .venv/bin/pip install zensical
.PHONY: docs
docs: setup $(PAGES)
	$(BIN)/python docs/build.py $(SITE)

bench: setup
	$(BIN)/python -m benchmarks $(PEERS:%=--peers %) $(ARGS)

# On a machine with CUDA, with that machine's own Python and packages: nothing is installed.
gpu:
	$(PYTHON) -m benchmarks.gpu $(ARGS)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'twincaps needs Python 3.11 or newer, and "$(PYTHON)" is not; try make PYTHON=python3.12' >&2; \
		exit 1; }
	$(PYTHON) -m venv .venv

# One stamp for each extra, so that installing one wing never brings the other.
$(EXTRAS:%=.venv/installed-%) $(PICTURES) $(PAGES): .venv/installed-%: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt -e '.[$*]'
	@touch $@

.venv/installed-%:
	$(error BACKEND is "$*"; expected torch or jax)
