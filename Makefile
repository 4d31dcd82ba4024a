# Needs Python 3.11 or later and make; everything else comes into .venv.
PYTHON ?= python3
UV := .venv/bin/uv
RUN := $(UV) run --frozen --no-sync

.DEFAULT_GOAL := help
.PHONY: help setup demo test check chaos bench bench-stages bench-transports bench-accuracy bench-drift bench-recovery bench-replay proto fmt

help: ## What can be made
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready ## Install uv and everything the lock names into .venv

demo: .venv/.runtime ## Start the whole system and play a call through it
	@$(RUN) callscope demo

test: setup ## Run every test, on a real Kafka
	@$(RUN) pytest

check: setup ## Lint, types, layers, schemas
	@$(RUN) ruff check . && $(RUN) ruff format --check . && $(RUN) mypy && $(RUN) lint-imports && $(RUN) python tools/check_schemas.py

chaos: setup ## Faults on purpose while 20 legs run: make chaos OPTIONS="--minutes 30"
	@$(RUN) python -m chaos $(OPTIONS)

bench: .venv/.runtime ## How many legs this machine carries, and at what cost
	@$(RUN) callscope bench

bench-stages: setup ## CPU of each stage, per second of audio and stream
	@$(RUN) python -m bench.stages

bench-transports: setup ## Our transport beside plain Faust, confluent-kafka, quixstreams and Kafka Streams
	@$(RUN) python -m bench.transports

bench-accuracy: setup ## How well the detectors find speech: make bench-accuracy DATA=folder of labelled WAV files
	@$(RUN) python -m bench.accuracy "$(DATA)"

bench-drift: setup ## A 30-minute stream of one recording, looped: make bench-drift DATA=recording.wav
	@$(RUN) python -m bench.drift "$(DATA)"

bench-recovery: setup ## How long results stay away when a worker is killed under 20 legs
	@$(RUN) python -m bench.recovery

bench-replay: setup ## How fast calls are replayed, with one worker and with one a core
	@$(RUN) python -m bench.replay

proto: setup ## Generate schemas/v1 again after a change to a .proto
	@$(RUN) python tools/generate_schemas.py

fmt: setup ## Format and mend what can be mended
	@$(RUN) ruff format . && $(RUN) ruff check --fix .

.venv/bin/uv:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"Callscope needs Python 3.11 or later; {sys.executable} is {v[0]}.{v[1]}. Name another: make PYTHON=python3.12 ...")'
	@echo "Setting up .venv ..." && $(PYTHON) -m venv .venv && .venv/bin/pip install --quiet --disable-pip-version-check 'uv>=0.8,<1'

.venv/.runtime: .venv/bin/uv pyproject.toml uv.lock
	@$(UV) sync --frozen --inexact --no-dev && touch $@

.venv/.ready: .venv/.runtime
	@$(UV) sync --frozen --inexact && touch $@
