# Two commands do everything on a machine with Python 3.11: `make demo` and `make test`.
# Each first makes .venv from the lock.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
PYTHON := $(VENV)/bin/python
# The first interpreter that is a Python 3.11.
FIND_PYTHON = for python in python3.11 python3 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null \
	&& echo $$python && break; done

# `make demo` works in DEMO, on its own corpus; or on MANIFEST, with the flags of
# pipelines.prepare_dataset that it needs in DATASET_FLAGS. Another DEMO keeps two apart.
MANIFEST :=
DATASET_FLAGS :=
DEMO := demo$(if $(MANIFEST),-$(basename $(notdir $(MANIFEST))))
RECIPE := resnet50
TRAIN_FLAGS := --batch-size 32 --steps 300 --set width=0.25
DEMO_MANIFEST := $(or $(MANIFEST),$(DEMO)/corpus/manifest.csv)
RUN := $(DEMO)/$(RECIPE)
# What the tests on Flink run: a job server of Beam with Flink in it, this one or your own.
FLINK_JOB_SERVER_JAR := .flink/job-server.jar

# Airflow pins what TensorFlow and Beam pin otherwise.
AIRFLOW := .venv-airflow
AIRFLOW_PINS := pipelines/deploy/airflow/requirements

.PHONY: help demo test test-flink test-airflow benchmark benchmark-quick check format lock clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.installed: requirements.lock
	@python=$$($(FIND_PYTHON) || true); \
	if [ -z "$$python" ]; then \
		echo "error: Python 3.11 is needed and none of python3.11, python3, python is one;" \
			"install it (Debian: apt install python3.11 python3.11-venv)" >&2; exit 1; \
	fi; \
	echo "installing into $(VENV) from requirements.lock"; \
	rm -rf $(VENV); \
	$$python -m venv $(VENV)
	@# uv takes a fraction of pip's time; pip has settings that uv has not, such as a mirror's.
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.lock)"
	@$(VENV)/bin/uv pip install --quiet --python $(PYTHON) -r requirements.lock || { \
		echo "uv failed, see above: installing with pip" >&2; \
		$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements.lock; }
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
		--editable .
	@touch $@

demo: $(VENV)/.installed $(DEMO_MANIFEST) ## media in, evaluation report out (MANIFEST=... for yours)
	$(PYTHON) -m pipelines.prepare_dataset --manifest $(DEMO_MANIFEST) $(DATASET_FLAGS) \
		--output $(DEMO)/dataset
	$(PYTHON) -m pipelines.extract_features --dataset $(DEMO)/dataset --output $(DEMO)/features
	$(PYTHON) -m training.train $(RECIPE) --features $(DEMO)/features $(TRAIN_FLAGS) \
		--output $(RUN)/run
	$(PYTHON) -m evaluation.score_videos --features $(DEMO)/features --run $(RUN)/run \
		--output $(RUN)/scores --frame-scores
	$(PYTHON) -m evaluation.evaluate --scores $(RUN)/scores --output $(RUN)/report

$(DEMO)/corpus/manifest.csv: | $(VENV)/.installed
	$(PYTHON) -m pipelines.demo_corpus --output $(DEMO)/corpus

# In order of collection: else the files of few and long tests would all come last.
test: $(VENV)/.installed ## run the tests
	@$(MAKE) --no-print-directory $(FLINK_JOB_SERVER_JAR) || \
		echo "warning: no job server for Flink, see above: its tests are skipped" >&2
	FLINK_JOB_SERVER_JAR=$(FLINK_JOB_SERVER_JAR) $(PYTHON) -m pytest -n auto --dist loadfile \
		--no-loadscope-reorder

test-flink: $(VENV)/.installed $(FLINK_JOB_SERVER_JAR) ## run the jobs on a Flink cluster (Java, Maven)
	FLINK_JOB_SERVER_JAR=$(FLINK_JOB_SERVER_JAR) $(PYTHON) -m pytest tests/integration/flink

.flink/job-server.jar: tests/integration/flink/pom.xml
	mvn --quiet --batch-mode --file $< package

$(AIRFLOW)/.installed: $(AIRFLOW_PINS).lock | $(VENV)/.installed
	@echo "installing into $(AIRFLOW) from $<"
	@rm -rf $(AIRFLOW)
	@$(PYTHON) -m venv $(AIRFLOW)
	@$(VENV)/bin/uv pip install --quiet --python $(AIRFLOW)/bin/python --requirement $<
	@touch $@

test-airflow: $(VENV)/.installed $(AIRFLOW)/.installed ## run the example DAG in a real Airflow
	AIRFLOW=$(CURDIR)/$(AIRFLOW)/bin/airflow $(PYTHON) -m pytest tests/integration/test_airflow.py

benchmark: $(VENV)/.installed ## run all benchmarks and write docs/benchmarks.md (under 50 minutes)
	$(PYTHON) -m tests.benchmarks

benchmark-quick: $(VENV)/.installed ## the quick benchmarks; docs/ stays as it is (under 12 minutes)
	$(PYTHON) -m tests.benchmarks --quick

check: $(VENV)/.installed ## lint, formatting, types, the import rule
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	MYPYPATH=. $(VENV)/bin/mypy --explicit-package-bases tests/benchmarks
	$(VENV)/bin/lint-imports

format: $(VENV)/.installed ## format the code
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

lock: $(VENV)/.installed ## pin the closure of requirements.txt and the tools again
	$(VENV)/bin/uv pip compile --quiet --upgrade --no-header --no-emit-index-url \
		--python-version 3.11 --python-platform x86_64-unknown-linux-gnu \
		--extra dev --output-file requirements.lock pyproject.toml
	$(VENV)/bin/uv pip compile --quiet --upgrade --no-header --no-emit-index-url \
		--python-version 3.11 --python-platform x86_64-unknown-linux-gnu \
		--output-file $(AIRFLOW_PINS).lock $(AIRFLOW_PINS).txt

clean: ## remove the environment, the demos and all caches
	rm -rf $(VENV) $(AIRFLOW) .flink demo demo-* build *.egg-info .mypy_cache .pytest_cache \
		.ruff_cache .import_linter_cache
