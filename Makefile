# `make demo` and `make test` set everything up themselves: they need Python >= 3.11 and make, nothing else.
.DEFAULT_GOAL := help
.PHONY: help venv demo test check bench bench-peers chaos soak simulate simulate-mutations clean

BIN := .venv/bin
STAMP := .venv/installed

# The first Python on PATH that is new enough. A shim of pyenv may exist and not run, so each is asked.
FIND_PYTHON = for python in python3 python3.13 python3.12 python3.11; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$python; break; fi; \
	done

help: ## Print this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

venv: $(STAMP) ## Create .venv with all that the other targets need

$(STAMP): pyproject.toml
	@python=$$($(FIND_PYTHON)); \
	if [ -z "$$python" ]; then echo "taskflow needs Python >= 3.11, and none of python3, python3.13, python3.12, python3.11 is that" >&2; exit 1; fi; \
	echo "installing into .venv with $$($$python --version), which takes about a minute"; \
	$$python -m venv .venv
	@$(BIN)/pip install -qq --disable-pip-version-check -e '.[test]'
	@touch $(STAMP)

demo: $(STAMP) ## Run the examples on real processes and print the timeline of a run
	@$(BIN)/python -m examples.demo

test: $(STAMP) ## Run all tests
	$(BIN)/python -m pytest -n 2

check: $(STAMP) ## Run the linter, the formatter's check, and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP) ## Measure throughput and latency
	$(BIN)/python -m benchmarks

bench-peers: $(STAMP) ## Measure it beside its peers, and write docs/benchmarks.md
	$(BIN)/python -m benchmarks.peers

MINUTES := 5
BROKER := valkey
RUNS := 1000000

chaos: $(STAMP) ## Kill, pause and cut everything at random, then check (MINUTES=5 BROKER=valkey SEED=...)
	$(BIN)/python -m chaos --minutes $(MINUTES) --broker $(BROKER) $(if $(SEED),--seed $(SEED))

soak: $(STAMP) ## Watch memory and keys over many runs (RUNS=1000000)
	$(BIN)/python -m benchmarks.soak --runs $(RUNS)

SEEDS := 1000
FIRST := 0
simulate: $(STAMP) ## Simulate SEEDS=1000 worlds in which everything goes wrong, from FIRST=0 on
	$(BIN)/python -m tests.simulation.simulator --seeds $(SEEDS) --first $(FIRST) --keep-going

simulate-mutations: $(STAMP) ## Put bugs into the engine, and see that the simulator finds each
	TASKFLOW_MUTATIONS_FROM_THE_FIRST=1 $(BIN)/python -m pytest -n 2 -q tests/simulation/test_mutations.py

clean: ## Remove what was installed and generated
	rm -rf .venv .venv-peers .taskflow .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
