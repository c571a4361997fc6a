# LangPTune: `make` shows what there is to make.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# One torch thread a process: two on a busy 2-core machine were up to ten times slower.
export OMP_NUM_THREADS ?= 1

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Create the environment (.venv) with pinned versions

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	@echo "Installing torch (first and pinned, so that nothing else chooses its build) ..."
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	@echo "Installing langptune and its tools ..."
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,dev]'
	@touch $(STAMP)

demo: $(STAMP) ## The whole story on this machine, about five minutes (ARGS=--exit to end by itself)
	$(BIN)/langptune demo $(ARGS)

up: $(STAMP) ## Start Redis and the four services on this machine (ARGS=... for options)
	$(BIN)/langptune up $(ARGS)

test: $(STAMP) ## Run the whole test suite
	$(BIN)/pytest -q -n 2 --dist loadfile $(ARGS)

resume-check: $(STAMP) ## Kill a training worker at 20 random moments; its weights must be those of an undisturbed run (about 6 minutes)
	LANGPTUNE_RESUME_MOMENTS=20 $(BIN)/pytest -q -s tests/integration/trainer/test_exact_resume.py $(ARGS)

pictures: $(STAMP) ## Take the pictures of the page in docs/images again (needs Chromium; about three minutes)
	$(BIN)/python -m tests.browser.pictures $(ARGS)

lint: $(STAMP) ## Check style, types and import boundaries
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

protos: $(STAMP) ## Generate langptune/v1 from protos/
	$(BIN)/python -m grpc_tools.protoc --proto_path=protos --python_out=. --mypy_out=. --grpc_python_out=. --mypy_grpc_out=. \
	  --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  protos/langptune/v1/*.proto

lint-protos: ## Lint protos/ with buf (needs npm)
	npm exec --yes --package=@bufbuild/buf@1.75.0 -- buf lint protos

samples: $(STAMP) ## Generate the sample world and train its tiny models again (about 40 minutes)
	$(BIN)/python -m samples all

learning: $(STAMP) ## Train every variant on the sample world, 3 seeds, and compare them (up to 30 minutes)
	$(BIN)/python -m benchmarks.learning_curve $(ARGS)

k8s-check: ## Scan the manifests for bad practice (needs kubectl; checkov, in an environment of its own)
	infra/k8s/check.sh

images: $(STAMP) ## Build and start images without a container engine (needs root, apt: buildah debootstrap; SERVICES="gateway ...")
	for service in $(or $(SERVICES),gateway); do infra/images/build.sh $$service run || exit; done

experiments: $(STAMP) ## The paper's tables and figures on the sample world, 3 seeds (up to 60 minutes on two cores; goes on where it was)
	$(BIN)/langptune experiment all --table table1 --table table2 --table table3 --seeds 3 --out build/experiments $(ARGS)
	$(BIN)/langptune experiment all --table table4 --table figure4 --seeds 1 --out build/experiments $(ARGS)
	$(BIN)/langptune experiment all --table steering --table profiles --table histories --seeds 3 --out build/experiments $(ARGS)
	$(BIN)/langptune experiment all --table table5 --table table6 --table figure5 --table examples --seeds 1 --out build/experiments $(ARGS)
	$(BIN)/langptune experiment page build/experiments

.PHONY: help install demo up test pictures resume-check lint protos lint-protos samples learning k8s-check images experiments
