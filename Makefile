# Two commands for users, the rest for contributors:
#
#   make demo      one job on bundled real cells, end to end; results in demo_out/
#   make test      all quick tests and the examples in the docstrings
#
#   make test-all  the tests that take minutes as well
#   make lint      ruff (rules and format) and mypy
#   make docs      the documentation in docs/_build/html; warnings are errors, tutorials are executed
#   make bench     how long models take beside scvi-tools, as ratios
#   make clean     removes what the commands above made, the virtual environment included
#
# Each command makes the virtual environment .venv at first use and installs only what it needs.
# Other Python:     make test PYTHON=python3.13
# With uv:          UV_TORCH_BACKEND=cpu make test PIP="uv pip"

PYTHON ?= python3
VENV ?= .venv
OUT ?= demo_out
BIN := $(VENV)/bin
PIP ?= $(BIN)/python -m pip
INSTALL = $(PIP) install --quiet -c constraints.txt -e .
# Two processes of one thread each: what a machine of two cores runs at a time, at about 1 GB of memory per process.
# A process that runs out of tests takes over some of the other's. One process: make test ARGS="-n 0 --pdb"
PYTEST = OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} MPLBACKEND=Agg $(BIN)/python -m pytest -n 2 --dist worksteal

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-all lint docs bench clean

help:
	@sed -n '/^#   make/s/^#   //p' Makefile

# --- environments: one stamp file per set of packages, so that nothing is installed twice ---

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "latentcell needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "no virtual environment could be made (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@$(PIP) install --quiet --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.base: $(VENV)/.created pyproject.toml constraints.txt
	@echo "Installing latentcell into $(VENV): the first time takes some minutes"
	@$(INSTALL)
	@touch $@

$(VENV)/.test $(VENV)/.dev $(VENV)/.doc: $(VENV)/.%: $(VENV)/.base
	@echo "Installing the packages of dependency group '$*' into $(VENV)"
	@$(INSTALL) --group $*
	@touch $@

$(VENV)/.benchmark: $(VENV)/.base
	@echo "Installing what the benchmarks need into $(VENV)"
	@$(PIP) install --quiet -c constraints.txt -e ".[benchmark]"
	@touch $@

# --- commands ---

demo: $(VENV)/.base
	$(BIN)/latentcell demo --out $(OUT)

test: $(VENV)/.test
	$(PYTEST) $(ARGS)

test-all: $(VENV)/.test
	$(PYTEST) -m "slow or not slow" $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --no-incremental

docs: $(VENV)/.doc
	MPLBACKEND=Agg $(BIN)/python -m sphinx -W --keep-going -n -b html docs docs/_build/html

bench: $(VENV)/.benchmark
	MPLBACKEND=Agg $(BIN)/python benchmarks/speed.py $(ARGS)

clean:
	rm -rf $(VENV) $(OUT) docs/_build docs/generated .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
