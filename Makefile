# Two commands do everything on a machine with Python 3.11, 3.12 or 3.13: `make demo` and
# `make test`. Each first makes .venv from the lock.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
VENV_PYTHON := $(VENV)/bin/python
# PYTHON names the interpreter that .venv is made with; by default the newest that runs. One on PATH
# may be a version manager's shim that does not, and Debian has the module venv in another package.
PYTHON :=
PYTHONS := $(or $(PYTHON),python3.13 python3.12 python3.11 python3 python)
IS_SUPPORTED := import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
# uv takes a fraction of pip's time; pip has settings that uv has not, such as a mirror's. Unlike pip
# uv leaves compiling to the first import, which does not keep it where that variable is set: then
# each start of TensorFlow would take three times the CPU.
PIP_INSTALL := $(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check
UV_INSTALL := $(VENV)/bin/uv pip install --quiet --require-hashes \
	$(if $(PYTHONDONTWRITEBYTECODE),--compile-bytecode)

# `make demo` works in DEMO, on its own corpus; or on MANIFEST, with the flags of
# pipelines.prepare_dataset that it needs in DATASET_FLAGS. Another DEMO keeps two apart.
MANIFEST :=
DATASET_FLAGS :=
DEMO := demo$(if $(MANIFEST),-$(basename $(notdir $(MANIFEST))))
RECIPE := resnet50
TRAIN_FLAGS := --batch-size 32 --steps 150 --set width=0.25
DEMO_MANIFEST := $(or $(MANIFEST),$(DEMO)/corpus/manifest.csv)
RUN := $(DEMO)/$(RECIPE)
# `make results` runs the experiments on the clips of CLIPS, and on the network in YAMNET where that is
# given. YAMNET_CARD is its model card, which a copy of YAMNet with other outputs needs.
CLIPS :=
YAMNET :=
YAMNET_CARD := yamnet
RESULTS := experiments
EXPERIMENTS := table2 event_detection table4 esc50 esc10 table3 asynchronous modern
WITH_YAMNET := event_detection esc50 esc10
# What the tests on Flink run: a job server of Beam with Flink in it, this one or your own.
FLINK_JOB_SERVER_JAR := .flink/job-server.jar

# Airflow pins what TensorFlow and Beam pin otherwise.
AIRFLOW := .venv-airflow
IMAGE_LOCK := pipelines/deploy/dataflow/requirements.lock
CUDA_LOCK := pipelines/deploy/dataflow/requirements-gpu.lock
AIRFLOW_PINS := pipelines/deploy/airflow/requirements

.PHONY: FORCE help demo results test test-flink test-airflow benchmark benchmark-quick check format lock clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# What .venv was made from: the lock, and the version of Python. It is made again if either is another,
# by a Python outside of it: where .venv is activated, the first on PATH is its own.
$(VENV)/.installed: FORCE
	@made_from() { "$$1" -c 'import sys; print(sys.version_info[:2])' && cksum < requirements.lock; }; \
	if made_from $(or $(PYTHON),$(VENV_PYTHON)) 2> /dev/null | cmp --silent - $@; then exit; fi; \
	for python in $(PYTHONS) ""; do \
		[ -z "$$python" ] || ! $$python -c '$(IS_SUPPORTED)' 2> /dev/null || break; \
	done; \
	if [ -z "$$python" ]; then \
		echo "error: Python 3.11, 3.12 or 3.13 with venv is needed, and none of these is one that runs:" \
			"$(PYTHONS); install it (Debian: apt install python3 python3-venv) or name it:" \
			"make PYTHON=/path/to/python" >&2; exit 1; \
	fi; \
	echo "installing into $(VENV) with $$python from requirements.lock"; \
	python=$$($$python -c 'import sys; print(sys._base_executable)'); \
	rm -rf $(VENV); \
	$$python -m venv $(VENV); \
	$(PIP_INSTALL) --require-hashes --requirement <(sed -n '/^uv==/,/[^\\]$$/p' requirements.lock); \
	$(UV_INSTALL) --python $(VENV_PYTHON) --requirement requirements.lock || { \
		echo "uv failed, see above: installing with pip" >&2; \
		$(PIP_INSTALL) --require-hashes --requirement requirements.lock; }; \
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .; \
	made_from $(VENV_PYTHON) > $@

demo: $(VENV)/.installed $(DEMO_MANIFEST) ## media in, evaluation report out (MANIFEST=... for yours)
	$(VENV_PYTHON) -m pipelines.prepare_dataset --manifest $(DEMO_MANIFEST) $(DATASET_FLAGS) \
		--output $(DEMO)/dataset
	$(VENV_PYTHON) -m pipelines.extract_features --dataset $(DEMO)/dataset --output $(DEMO)/features
	$(VENV_PYTHON) -m training.train $(RECIPE) --features $(DEMO)/features $(TRAIN_FLAGS) \
		--output $(RUN)/run
	$(VENV_PYTHON) -m evaluation.score_videos --features $(DEMO)/features --run $(RUN)/run \
		--output $(RUN)/scores --frame-scores
	$(VENV_PYTHON) -m evaluation.evaluate --scores $(RUN)/scores --output $(RUN)/report

$(DEMO)/corpus/manifest.csv: | $(VENV)/.installed
	$(VENV_PYTHON) -m pipelines.demo_corpus --output $(DEMO)/corpus

results: $(VENV)/.installed ## the paper's experiments, and docs/results.md (CLIPS=...; about two days)
	@[ -n "$(CLIPS)" ] || { echo "error: CLIPS=FOLDER names the folder of clips.csv" >&2; exit 2; }
	for experiment in $(EXPERIMENTS); do \
		network=(); \
		[[ -z "$(YAMNET)" || " $(WITH_YAMNET) " != *" $$experiment "* ]] || \
			network=(--network $(YAMNET) --card $(YAMNET_CARD)); \
		$(VENV_PYTHON) -m evaluation.paper.$$experiment --scale small --clips $(CLIPS) \
			"$${network[@]}" --output $(RESULTS); \
		$(VENV_PYTHON) -m evaluation.paper.results $(RESULTS) --output docs; \
	done
	$(VENV_PYTHON) -m evaluation.paper.table1 --dataset $(RESULTS)/dataset
	$(VENV_PYTHON) -m evaluation.score_videos --features $(RESULTS)/features --frame-scores \
		--run $(RESULTS)/runs/resnet50_17m --output $(RESULTS)/frame-scores
	$(VENV_PYTHON) -m evaluation.paper.figure2 --scores $(RESULTS)/frame-scores \
		--video evaluation-00000 --output $(RESULTS)/figure2.pdf
	$(VENV_PYTHON) -m evaluation.paper.map_over_cost --results docs \
		--output $(RESULTS)/map_over_cost.pdf

# A process more than cores, since one of them waits for clusters (tests/conftest.py has the order).
TEST_PROCESSES = $$(($$(nproc) + 1))
test: $(VENV)/.installed ## run the tests (TESTS=... for some of them)
	@$(MAKE) --no-print-directory $(FLINK_JOB_SERVER_JAR) || \
		echo "warning: no job server for Flink, see above: its tests are skipped" >&2
	FLINK_JOB_SERVER_JAR=$(FLINK_JOB_SERVER_JAR) $(VENV_PYTHON) -m pytest -n $(TEST_PROCESSES) \
		--dist loadfile --no-loadscope-reorder $(TESTS)

test-flink: $(VENV)/.installed $(FLINK_JOB_SERVER_JAR) ## run the jobs on a Flink cluster (Java, Maven)
	FLINK_JOB_SERVER_JAR=$(FLINK_JOB_SERVER_JAR) $(VENV_PYTHON) -m pytest tests/integration/flink

.flink/job-server.jar: tests/integration/flink/pom.xml
	mvn --quiet --batch-mode --file $< package

$(AIRFLOW)/.installed: $(AIRFLOW_PINS).lock | $(VENV)/.installed
	@echo "installing into $(AIRFLOW) from $<"
	@rm -rf $(AIRFLOW)
	@$(VENV_PYTHON) -m venv $(AIRFLOW)
	@$(UV_INSTALL) --python $(AIRFLOW)/bin/python --requirement $<
	@touch $@

test-airflow: $(VENV)/.installed $(AIRFLOW)/.installed ## run the example DAG in a real Airflow
	AIRFLOW=$(CURDIR)/$(AIRFLOW)/bin/airflow $(VENV_PYTHON) -m pytest tests/integration/test_airflow.py

benchmark: $(VENV)/.installed ## run all benchmarks and write docs/benchmarks.md (an hour and more)
	$(VENV_PYTHON) -m tests.benchmarks

benchmark-quick: $(VENV)/.installed ## the quick benchmarks; docs/ stays as it is
	$(VENV_PYTHON) -m tests.benchmarks --quick

check: $(VENV)/.installed ## lint, formatting, types, the import rule
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: $(VENV)/.installed ## format the code
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# For all supported versions of Python, each with the newest release that it has.
LOCK := pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-header --no-emit-index-url

lock: $(VENV)/.installed ## pin the closure of requirements.txt and the tools again
	$(VENV)/bin/uv $(LOCK) --extra dev --output-file requirements.lock pyproject.toml
	$(VENV)/bin/uv $(filter-out --upgrade,$(LOCK)) --constraints requirements.lock \
		--extra openvino --extra networks --output-file $(IMAGE_LOCK) pyproject.toml
	echo 'tensorflow[and-cuda]' | $(VENV)/bin/uv $(filter-out --upgrade,$(LOCK)) \
		--constraints requirements.lock - | sed -n '/^nvidia-/,/[^\]$$/p' > $(CUDA_LOCK)
	folder=$$(mktemp -d); trap "rm -r $$folder" EXIT; \
	$(VENV)/bin/uv $(filter-out --upgrade,$(LOCK)) --extra dev --constraints requirements.lock \
		--format pylock.toml --output-file $$folder/pylock.toml pyproject.toml; \
	$(VENV_PYTHON) -m tests.release_dates $$folder/pylock.toml
	$(VENV)/bin/uv $(LOCK) --output-file $(AIRFLOW_PINS).lock $(AIRFLOW_PINS).txt

clean: ## remove the environment, the demos and all caches
	rm -rf $(VENV) $(AIRFLOW) .venv-newest .flink demo demo-* build *.egg-info .mypy_cache .pytest_cache \
		.ruff_cache .import_linter_cache
