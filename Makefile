# Inkbeat. `make help` lists the targets; `make benchmark` and `make test` set themselves up.
PRESET  ?= quick
SWEEP   ?= experiments/$(PRESET).yaml
RUNS    ?= runs
ENGINE  ?= local
SIGNALS ?=
ARGS    ?=

VENV    := .venv
BIN     := $(VENV)/bin
READY   := $(VENV)/.ready
INKBEAT := $(BIN)/inkbeat
# The first interpreter that is new enough; uv is never asked to download one.
PYTHON  ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
             $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $$p && break; done)
export UV_PYTHON_DOWNLOADS := never
export UV_LINK_MODE := copy
# uv installs sources only. Where this is set, every process would compile torch and Lightning anew: 20 s, not 5.
unexport PYTHONDONTWRITEBYTECODE

SIGNALS_ARG := $(if $(SIGNALS),--set signals=$(SIGNALS))

.DEFAULT_GOAL := help
.PHONY: help setup setup-ray benchmark reader plan report results status test test-slow test-gpu test-browser test-ray \
        test-slurm test-fuzz lint format type perf lock clean

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv from the hash-pinned lock

$(READY): requirements.lock bootstrap.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found. Install one, or: make $@ PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv module (Debian: apt-get install python3-venv)."; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "set-up: installing the locked packages into $(VENV) (about a minute) ..."
	@if $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r bootstrap.lock; then \
	    $(BIN)/uv pip install -q --python $(BIN)/python --no-deps --require-hashes -r requirements.lock && \
	    $(BIN)/uv pip install -q --python $(BIN)/python --no-deps -e . ; \
	else \
	    echo "set-up: uv is not to be had here, using pip (slower)"; \
	    $(BIN)/python -m pip install -q --no-deps --require-hashes -r requirements.lock && \
	    $(BIN)/python -m pip install -q --no-deps -e . ; \
	fi
	@touch $@

setup-ray: $(READY) ## add the Ray engine
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --require-hashes -r requirements-ray.lock

benchmark: $(READY) ## run a sweep and its report: PRESET=quick|cpu|paper, SIGNALS=DIR of WFDB records
	@$(INKBEAT) run $(SWEEP) --out $(RUNS) --engine $(ENGINE) $(SIGNALS_ARG) $(ARGS)

reader: $(READY) ## train the reader that ships, two and a half to five hours, and pack it: SIGNALS=DIR of WFDB records
	@$(INKBEAT) run experiments/reader.yaml --out $(RUNS) $(SIGNALS_ARG) $(ARGS)
	@$(INKBEAT) reader pack $(RUNS)/reader --out $(RUNS)/reader/reader.safetensors --px-per-mm 3.2 6
	@$(INKBEAT) run experiments/reader_further.yaml --out $(RUNS) $(SIGNALS_ARG) --set name=reader_then \
	    --set start_from=$(RUNS)/reader/reader.safetensors --set cohorts.noisy.seed=1 \
	    --set cohorts.noisy.scans=1500 --set training.epochs=6 $(ARGS)
	@$(INKBEAT) reader pack $(RUNS)/reader_then --out $(RUNS)/reader_then/reader.safetensors --px-per-mm 3.2 6
	@$(INKBEAT) run experiments/reader_further.yaml --out $(RUNS) $(SIGNALS_ARG) \
	    --set start_from=$(RUNS)/reader_then/reader.safetensors $(ARGS)
	@$(INKBEAT) reader pack $(RUNS)/reader_further --px-per-mm 3.2 6

plan: $(READY) ## show a sweep's cells without running them: PRESET=...
	@$(INKBEAT) plan $(SWEEP) --out $(RUNS) $(SIGNALS_ARG) $(ARGS)

report: $(READY) ## rebuild the report of a sweep: PRESET=...
	@$(INKBEAT) report $(RUNS)/$(PRESET)

results: $(READY) ## write the README's result tables from docs/results
	@$(BIN)/python -m lightning_app.report.collected

status: $(READY) ## show how far a sweep is: PRESET=...
	@$(INKBEAT) status $(RUNS)/$(PRESET)

test: $(READY) ## the fast suite, minutes on two cores
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal $(ARGS)

test-slow: $(READY) ## tests that take minutes each
	@$(BIN)/python -m pytest -q -m slow $(ARGS)

test-gpu: $(READY) ## tests that need a CUDA device
	@$(BIN)/python -m pytest -q -m gpu $(ARGS)

test-browser: $(READY) ## opens the report page in chromium
	@$(BIN)/python -m pytest -q -m browser $(ARGS)

test-ray: setup-ray ## the Ray engine on a local two-node cluster
	@$(BIN)/python -m pytest -q -m ray tests/lightning_app/engines $(ARGS)

test-slurm: $(READY) ## the SLURM engine on a one-node cluster the test starts
	@$(BIN)/python -m pytest -q -m slurm tests/lightning_app/engines $(ARGS)

test-fuzz: $(READY) ## random inputs for minutes
	@$(BIN)/python -m pytest -q -m fuzz $(ARGS)

lint: $(READY) ## ruff
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: $(READY) ## let ruff fix and format
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

type: $(READY) ## mypy --strict on our packages
	@$(BIN)/mypy

perf: $(READY) ## the benchmarks of tests/performance, as ratios in one run
	@$(BIN)/python -m tests.performance $(ARGS)

lock: $(READY) ## resolve the dependencies again
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade \
	    --extra test --extra slurm --extra dashboard pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade \
	    --extra ray -c requirements.lock pyproject.toml -o requirements-ray.lock
	@echo uv | $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade - -o bootstrap.lock
	@! grep -n '://' requirements.lock requirements-ray.lock bootstrap.lock

clean: ## remove the environment and caches, keep runs/
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
