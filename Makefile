# What a person types. `make help` lists it.
#     make book PROFILE=cpu DATA=~/photos SEED=1 CORES=8
PYTHON ?= python3
PROFILE ?= smoke
DATA ?=
SEED ?= 0
CORES ?= all
ONLY ?=

# These values go to the commands in the environment, as they were typed: neither make nor a shell may read them, for a
# folder's name can hold any letter. Without `unexport`, make would expand a $(...) in them on the way.
unexport PROFILE DATA SEED CORES ONLY
export BOOK_PROFILE := $(value PROFILE)
export BOOK_DATA := $(value DATA)
export BOOK_SEED := $(value SEED)
export BOOK_CORES := $(value CORES)
export BENCHMARKS := $(value ONLY)

VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/ready

# Fails, saying why, unless the interpreter is as new as pyproject.toml asks. Old ones must be able to read it.
CHECK = import re, sys; \
  need = re.search("requires-python = .>=([0-9.]+)", open("pyproject.toml").read()).group(1); \
  sys.exit(sys.version_info[:3] < tuple(int(n) for n in need.split(".")) and \
  "Python %s or newer is needed, and this is %s; name one: make PYTHON=/path/to/python3.12" % (need, sys.version.split()[0]))

.PHONY: help book pdf test pages-test links lint bench mutants drawings lock clean

help:
	@echo "make book    execute every chapter and build the pages: _build/html/index.html"
	@echo "             PROFILE=smoke|cpu|gpu|paper  DATA=folder of photos  SEED=0  CORES=all"
	@echo "make pdf     print the built pages into one file, _build/html/book.pdf; needs Chromium or Chrome"
	@echo "make test    lint, then run every test"
	@echo "make pages-test  the built pages in a real browser: needs Chromium and a built book"
	@echo "make links   ask every address outside that the built book names"
	@echo "make lint    ruff, the types (mypy), and which package may import which (import-linter)"
	@echo "make bench   every benchmark, about half an hour on two quiet cores: results/benchmarks.parquet"
	@echo "             ONLY=\"training restoring\" runs some"
	@echo "make mutants    change the code a line at a time: do the tests notice? about an hour; no part of make test"
	@echo "make drawings  the book's drawings of the networks and the training, from the code"
	@echo "make lock    write requirements.lock anew from the newest versions"
	@echo "make clean   remove all that these made: pages, TRAINED NETWORKS in _build/runs, the environment"

# Made again when the dependencies change.
$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c '$(CHECK)'
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install -q --disable-pip-version-check -c requirements.lock -e ".[baselines,book,dev,export]"
	@touch $@

book: $(READY)
	@$(RUN) book/tools/build.py

pdf: $(READY)
	@$(RUN) book/tools/pdf.py --html _build/html

# A file's tests stay in one process, which makes what they share once.
test: lint
	@$(RUN) -m pytest -n 2 --dist loadfile

pages-test: $(READY)
	@$(RUN) -m pytest tests/book/test_pages.py

# What `make book` laid out, with the exceptions of _config.yml. Not for CI: it fails when somebody else's server does.
links: $(READY)
	@$(RUN) book/tools/render.py --links

lint: $(READY)
	@$(RUN) -m ruff check -q .
	@$(RUN) -m mypy
	@$(VENV)/bin/lint-imports --no-cache

# The peers are no dependencies of the book; one that cannot be installed is recorded as such.
bench: $(READY)
	@for peer in deepinv kornia torchmetrics; do \
	  $(RUN) -m pip install -q --disable-pip-version-check -c requirements.lock $$peer || echo "$$peer cannot be installed"; done
	@$(RUN) -m benchmarks

mutants: $(READY)
	@$(RUN) -m pip install -q --disable-pip-version-check "mutmut>=3.8"
	@$(RUN) tests/mutants.py

# The package carries them; a test compares.
drawings: $(READY)
	@$(RUN) book/tools/drawings.py

# An environment of its own, so that what is written is what a fresh install gets.
lock:
	@$(PYTHON) -m venv --clear _build/lock-venv
	@_build/lock-venv/bin/python -m pip install -q --disable-pip-version-check -e ".[baselines,book,dev,export]"
	@{ sed -n '/^#/p' requirements.lock; _build/lock-venv/bin/python -m pip freeze --exclude-editable; } > _build/requirements.lock
	@mv _build/requirements.lock requirements.lock
	@rm -r _build/lock-venv

clean:
	rm -rf _build $(VENV) .pytest_cache .ruff_cache .hypothesis mutants
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
