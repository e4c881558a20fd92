# make repro  sets everything up and runs the pipeline that params.yaml describes
# make params NAME=bccd  writes params.yaml as presets/bccd.yaml has it (NAME=default: as it came)
# make preset NAME=bccd  runs presets/bccd.yaml in a copy, .scratch/presets/bccd, and writes its figures to results/presets/bccd
#                        as each row ends; ROWS='fast fast_svd' runs these alone; ROOT=FOLDER is where the data lie
# make install  sets up .venv alone, on a machine of a cluster (docs/scale.md)
# make test   sets everything up and runs the tests (15 minutes on two cores);  make lint  ruff and mypy;  make bench  the benchmarks
# make gpu    compares a GPU with the CPU, times it, and runs a tiny pipeline on it (20 minutes at most)

PYTHON ?= python3.11
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: repro params preset test lint bench gpu install
repro: .venv/installed
	dvc repro

params: .venv/installed
	@python -m tools.params $(or $(NAME),$(error Say which: make params NAME=bccd))

preset: .venv/installed
	python -m tools.preset $(or $(NAME),$(error Say which: make preset NAME=bccd)) $(ROWS) $(if $(ROOT),--root $(ROOT))

test: .venv/installed
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: .venv/installed
	ruff check .
	mypy

bench: .venv/installed
	for script in benchmarks/*.py; do python -m benchmarks.$$(basename $$script .py) || exit 1; done

gpu: .venv/installed
	python -m tools.gpu

install: .venv/installed

.venv/installed: requirements.txt constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	touch $@
