# `make demo` and `make test` are all a newcomer needs; `make` alone lists the rest.

# The interpreter that .venv is made with: `make demo PYTHON=/path/to/python3.12` names another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; \
	done)

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt

DEMO_RUN := runs/demo
DEMO_ARGS ?= HalfCheetah-v5 --generations 4 --steps-per-skill 250_000

CODE := skillrl tests benchmarks
PYTEST_ARGS ?= --numprocesses auto

.PHONY: help demo test lint format tables benchmarks-quick clean

help:
	@echo "make demo              discover skills on HalfCheetah and film them, in a few minutes"
	@echo "make test              lint, types, docstring examples and tests"
	@echo "make lint              the first two of these"
	@echo "make format            let ruff format the code and mend what it can"
	@echo "make tables            fill the tables of both README.md from benchmarks/results"
	@echo "make benchmarks-quick  every benchmark once, briefly"
	@echo "make clean             remove .venv and caches; runs and videos stay"

demo: .venv/installed
	$(BIN)/skillrl discover $(DEMO_ARGS) --run $(DEMO_RUN) --resume
	$(BIN)/skillrl render $(DEMO_RUN) --out videos
	$(BIN)/skillrl gallery $(DEMO_RUN)
	@echo
	@echo "One video a skill, and a grid of all, are in $(abspath videos/demo)"
	@echo "A page that shows and describes every skill: $(abspath $(DEMO_RUN))/gallery.html"

# One torch thread a worker: pytest already keeps every core busy.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

lint: .venv/installed-dev
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy $(CODE)

format: .venv/installed-dev
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

tables: .venv/installed-dev
	$(BIN)/python benchmarks/result_tables.py

benchmarks-quick: .venv/installed-benchmarks
	for script in env_throughput atari_throughput discovery_throughput discover_half_cheetah \
		discover_ant discover_humanoid discover_hopper discover_walker2d \
		ablations_half_cheetah skill_actions \
		zero_shot_half_cheetah online_gradient online_cost copy_task delayed_recall \
		long_range recurrent_throughput memory_tasks memory_sac rules_in_ppo \
		discover_masked discover_montezuma permutation_supervised permutation_policies \
		permutation_skills alignment_speed; do \
		$(BIN)/python benchmarks/$$script.py --quick || exit 1; done

clean:
	rm -rf .venv build dist skillrl.egg-info .mypy_cache .pytest_cache .ruff_cache
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

# The files below stand for finished installations: nothing is installed again until
# pyproject.toml or constraints.txt changes.
.venv/created:
	@test -n "$(PYTHON)" || { \
		echo "skillrl needs Python 3.11 or newer, and none is on the PATH." >&2; \
		echo "Install one, or name it: make demo PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu the package" >&2; \
		echo "python3-venv brings what is missing: sudo apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

# setuptools comes first, and builds outside of isolation, so that its version is pinned as well.
.venv/installed: .venv/created pyproject.toml constraints.txt
	@echo "Installing skillrl into .venv: a few minutes the first time."
	$(PIP) setuptools
	$(PIP) --no-build-isolation --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	$(PIP) --no-build-isolation --editable '.[dev]'
	@touch $@

.venv/installed-benchmarks: .venv/installed
	$(PIP) --no-build-isolation --editable '.[benchmarks]'
	@touch $@
