# make demo: install and train the main job on the embedded data.  make test: install and run all tests.
PYTHON ?= python3
VENV ?= .venv
# Test processes; more than the cores only slows them.
WORKERS ?= 2
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --constraint requirements/constraints.txt

.PHONY: demo test install lint audit clean

demo: install
	OMP_NUM_THREADS=$$(nproc) $(BIN)/python train.py task=matching

test: install
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --durations 15 -q

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml requirements/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(PIP) torch
	$(PIP) --editable ".[dev]"
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Known holes of the installed packages; exit code 2 says that nobody could be asked.
audit: install
	-$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/python scripts/audit.py

clean:
	rm -rf $(VENV) outputs/*
