# LangPTune: `make` shows what there is to make.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Create the environment (.venv) with pinned versions

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	@echo "Installing torch (first and pinned, so that nothing else chooses its build) ..."
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	@echo "Installing langptune and its tools ..."
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	@touch $(STAMP)

protos: $(STAMP) ## Generate langptune/v1 from protos/
	$(BIN)/python -m grpc_tools.protoc --proto_path=protos --python_out=. --mypy_out=. --grpc_python_out=. --mypy_grpc_out=. \
	  --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  protos/langptune/v1/*.proto

.PHONY: help install protos
