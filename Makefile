# make run    the main job: teacher, hybrid student, held-out evaluation (sets up what is missing)
# make test   all tests          make check  formatting, lint, types, import contracts
# make bench  measured speeds    make setup  .venv, pinned dependencies, the embedded model
# make study  does the circuit help? the default study; it says how long it will take
# make docs   this documentation as a site, build/site/index.html; needs no network
#
# make PYTHON=...       the Python to use, 3.11 to 3.13
# make TORCH_INDEX=URL  the index that torch comes from: for a build without CUDA, see README.md

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: setup run study test check docs bench clean
.DEFAULT_GOAL := run

setup: .venv/.ready

# torch comes first: with TORCH_INDEX by itself, since what it depends on has other versions there.
.venv/.ready: pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo 'error: Python 3.11 to 3.13 is needed: make PYTHON=/path/to/python3.11' >&2; exit 2; }
	@echo 'setting up .venv: about three minutes, once'
	"$(PYTHON)" -m venv .venv
	$(PIP) install --constraint constraints.txt $(if $(TORCH_INDEX),--no-deps --index-url "$(TORCH_INDEX)") torch
	$(PIP) install --constraint constraints.txt --editable '.[dev,devices,docs,ray]'
	$(BIN)/quantum-hybrid setup
	@touch $@

run: setup
	$(BIN)/python atropos.py process

study: setup
	$(BIN)/quantum-hybrid study

# Three at a time, since a quarter of their time is waiting; a file each, in the order of their names:
# xdist's own order puts files of one long test last, where the other workers have nothing to do. One
# thread for torch: threads that share cores with others wait for each other many times longer than
# the tests' tiny models take.
test: setup
	OMP_THREAD_LIMIT=1 $(BIN)/python -m pytest --numprocesses 3 --dist loadfile \
	  --no-loadscope-reorder

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

# The variable silences an advertisement for the theme's successor.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: setup
	$(BIN)/python -m benchmarks.head
	$(BIN)/python -m benchmarks.process
	$(BIN)/python -m benchmarks.overlap
	$(BIN)/python -m benchmarks.study
	$(BIN)/python -m benchmarks.circuit

clean:
	rm -rf .venv build dist src/*.egg-info benchmarks/.peers
