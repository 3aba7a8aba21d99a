# Everything a person needs: `make run` serves the demo models, `make test` proves that it works.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
# The Upworthy exploratory packages, for `make train` and `make demo`; see examples/train_ctr/README.md.
CSV ?=
# Hourly series, for `make train-forecast`; see examples/train_forecast/README.md.
SERIES ?=
RUNTIME := $(shell [ "$$(uname -s)" = Darwin ] && echo libonnxruntime.1.31.1.dylib || echo libonnxruntime.so.1.31.1)
export ORT_DYLIB_PATH ?= $(CURDIR)/.cache/onnxruntime/$(RUNTIME)
export OPENBLAS_NUM_THREADS := 1

.PHONY: help
help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

.PHONY: run
run: onnxruntime ## Serve the demo models and say what to try
	@echo "Building the server (about 4 minutes the first time) ..."
	@cargo build --release --package aibuyer-server
	@scripts/run.sh

.PHONY: test
test: onnxruntime .venv/ready .venv-mlflow/ready .venv-clickhouse/ready ## Run all tests, Rust and Python, on the real ONNX Runtime
	@echo "Rust tests (building takes about 4 minutes the first time) ..."
	@cargo test --workspace
	@echo "Python tests ..."
	@.venv/bin/python -m pytest -q examples
	@.venv/bin/python loadtest/gpu/gpu.py --self-test

.PHONY: lint
lint: .venv/ready ## Check format, lints, docs and the API's .proto files
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets -- -D warnings
	@RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
	@.venv/bin/ruff format --check --quiet --config examples/ruff.toml examples loadtest scripts
	@.venv/bin/ruff check --quiet --config examples/ruff.toml examples loadtest scripts
	@.venv/bin/buf lint proto
	@echo "lint: clean"

.PHONY: demo
demo: onnxruntime .venv/ready ## Score real held-out creatives over gRPC (CSV=..., else the Open Bandit sample)
	@cargo build --release --package aibuyer-server
	@PYTHONPATH=examples/train_ctr:examples/demo_ctr .venv/bin/python -m demo_ctr \
	    --server target/release/aibuyer-server --models models --out out/demo $(if $(CSV),--csv $(CSV))

.PHONY: demo-mlflow
demo-mlflow: onnxruntime .venv/ready .venv-mlflow/ready ## Promote, refuse and roll back versions in a real MLflow, under load
	@echo "Building the server (about 4 minutes the first time) ..."
	@cargo build --release --package aibuyer-server
	@PYTHONPATH=examples/train_ctr:examples/demo_ctr:examples/demo_mlflow .venv/bin/python -m demo_mlflow \
	    --server target/release/aibuyer-server --out out/demo-mlflow $$([ -t 0 ] && echo --stay || true)

.PHONY: demo-features
demo-features: onnxruntime .venv/ready .venv-clickhouse/ready ## Serve a model whose features are in a real ClickHouse, also while that is away
	@echo "Building the server (about 4 minutes the first time) ..."
	@cargo build --release --package aibuyer-server
	@PYTHONPATH=examples/train_ctr:examples/demo_ctr:examples/demo_features .venv/bin/python -m demo_features \
	    --server target/release/aibuyer-server --out out/demo-features $$([ -t 0 ] && echo --stay || true)

.PHONY: measure-features
measure-features: onnxruntime .venv/ready .venv-clickhouse/ready ## What looking features up adds to a request (half a minute; MIRROR=1 for a mirrored view)
	@cargo build --release --package aibuyer-server
	@PYTHONPATH=examples/train_ctr:examples/demo_ctr:examples/demo_features .venv/bin/python -m demo_features.measure \
	    --server target/release/aibuyer-server --out out/measure-features $(if $(MIRROR),--mirror)

.PHONY: demo-forecast
demo-forecast: onnxruntime .venv-forecast/ready ## Fit Prophet, serve the fit, hold it against Prophet (CSV=..., else a series of its own)
	@cargo build --release --package aibuyer-server
	@PYTHONPATH=examples/train_ctr:examples/demo_ctr:examples/fit_prophet .venv-forecast/bin/python -m fit_prophet \
	    --server target/release/aibuyer-server --out out/demo-forecast \
	    $(if $(CSV),--csv $(CSV)) $(if $(MLFLOW),--mlflow $(MLFLOW))

.PHONY: measure-promotions
measure-promotions: onnxruntime .venv/ready .venv-mlflow/ready ## What promotions cost, into loadtest/results (about 15 minutes); SCENE=refusals ... for one
	@cargo build --release --package aibuyer-server --package aibuyer-loadtest
	@PYTHONPATH=examples/train_ctr:examples/demo_ctr:examples/demo_mlflow .venv/bin/python -m demo_mlflow.measure \
	    --server target/release/aibuyer-server --out out/promotions $(SCENE)

.PHONY: train
train: csv .venv/ready ## Train the demo model anew (CSV=... required)
	@PYTHONPATH=examples/train_ctr .venv/bin/python -m train_ctr upworthy \
	    --csv $(CSV) --out models/ctr-upworthy/1 --report out/train

.PHONY: train-forecast
train-forecast: .venv/ready ## Train the demo forecaster anew (SERIES=... required)
	@[ -n "$(SERIES)" ] || { echo "make train-forecast needs SERIES=<folder data of the Numenta Anomaly Benchmark>; see examples/train_forecast/README.md"; exit 1; }
	@PYTHONPATH=examples/train_ctr:examples/train_forecast .venv/bin/python -m train_forecast \
	    --series $(SERIES) --out models/forecast-nab/1

.PHONY: csv
csv:
	@[ -n "$(CSV)" ] || { echo "make train needs CSV=<Upworthy exploratory packages>; see examples/train_ctr/README.md"; exit 1; }

.PHONY: bench
bench: onnxruntime .venv/ready ## Figures beside ONNX Runtime in process and bare tonic, into loadtest/results (about 6 minutes)
	@[ -e .cache/models/ctr-criteo-shape/1 ] || PYTHONPATH=examples/train_ctr .venv/bin/python loadtest/make_model.py .cache/models
	@loadtest/bench.sh

.PHONY: bench-forecasts
bench-forecasts: onnxruntime ## Forecasts and budgets through gRPC, and click-through rates beside them (about 3 minutes)
	@cargo bench --package aibuyer-server --bench forecasts

.PHONY: ghz
ghz: onnxruntime ## Load the server with ghz: SCENARIO=smoke, or all; ADDRESS=host:port for a running one (needs Go)
	@[ -n "$(ADDRESS)" ] || cargo build --release --package aibuyer-server --package aibuyer-loadtest
	@loadtest/ghz/run.sh $(or $(SCENARIO),smoke) $(ADDRESS)

.PHONY: instructions
instructions: ## Count the instructions of encode, queue, reply ... against the record (RECORD=1 writes it anew)
	@RECORD=$(RECORD) scripts/instructions.sh

.PHONY: grpcurl
grpcurl: onnxruntime ## Call the server with grpcurl, by reflection (needs Go)
	@cargo build --release --package aibuyer-server
	@scripts/grpcurl.sh

.PHONY: onnxruntime
onnxruntime: ## Download ONNX Runtime's shared library (pinned, hash-checked)
	@[ -e "$$ORT_DYLIB_PATH" ] || scripts/onnxruntime.sh

.PHONY: clickhouse
clickhouse: .venv-clickhouse/ready ## Install a real ClickHouse for tests and demos: scripts/clickhouse.py

.venv-clickhouse/ready: scripts/clickhouse.txt
	@echo "Downloading ClickHouse into .venv-clickhouse (180 MB; 560 MB on disk) ..."
	@$(PYTHON) -m venv .venv-clickhouse
	@.venv-clickhouse/bin/python -m pip install --disable-pip-version-check --no-deps --require-hashes \
	    --only-binary=:all: --requirement $<
	@touch $@

.venv-mlflow/ready: examples/requirements-mlflow-server.txt
	@echo "Installing an MLflow server into .venv-mlflow (half a minute) ..."
	@$(PYTHON) -m venv .venv-mlflow
	@.venv-mlflow/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	@touch $@

.venv-forecast/ready: examples/requirements-forecast.txt
	@echo "Installing Prophet into .venv-forecast (about a minute) ..."
	@$(PYTHON) -m venv .venv-forecast
	@.venv-forecast/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

.venv/ready: examples/requirements.txt
	@echo "Installing Python packages into .venv (about a minute) ..."
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement examples/requirements.txt
	@touch $@
