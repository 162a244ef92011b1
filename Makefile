# Chairlift's verbs: the same at home and in CI. `make` alone explains them. No verb needs a virtual environment
# beforehand: each makes the one it needs under .venv/ from its lock in requirements/, once.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:

PYTHON ?= python3
SERVING ?= serving-cpu
RECIPE ?= g2p-en
RUN ?= runs/$(notdir $(RECIPE:.toml=))
NAME ?= $(notdir $(RECIPE:.toml=))
VERSION ?= 1
ARGS ?=

# onnxruntime would report its use to its makers.
export ORT_DISABLE_TELEMETRY := 1

IMAGE ?= localhost/chairlift:latest
BASE_IMAGE ?= python:3.11-slim-bookworm
ENGINE ?= $(firstword $(foreach engine,podman buildah docker,$(if $(shell command -v $(engine)),$(engine))))

SERVE := .venv/$(SERVING)
TRAIN := .venv/training
DEV := .venv/dev
NATIVE := build/native/.stamp
PROTOC = $(DEV)/bin/python -m grpc_tools.protoc -Iproto proto/chairlift/v1/*.proto

##@ Run

.PHONY: serve
serve: $(SERVE)/.stamp $(NATIVE) ## start the server with the embedded models (options: ARGS="--listen 127.0.0.1:0")
	exec $(SERVE)/bin/python -m service $(ARGS)

.PHONY: call
call: $(SERVE)/.stamp ## ask a running server: make call WORDS="chairlift snow"
	@test -n "$(WORDS)" || { echo 'make call: nothing to ask; say WORDS="chairlift snow"' >&2; exit 2; }
	@$(SERVE)/bin/python -m chairlift $(ARGS) $(WORDS)

.PHONY: demo
demo: $(SERVE)/.stamp $(NATIVE) ## start a server, call it, stream from it, read its metrics, stop it
	@$(SERVE)/bin/python -m deploy.demo

##@ Make a model

.PHONY: data
data: $(TRAIN)/.stamp ## build data/cmudict, the pairs that the recipes g2p-en and g2p-en-tiny learn from
	$(TRAIN)/bin/python -m training.cmudict $(ARGS)

.PHONY: train
train: $(TRAIN)/.stamp ## train RECIPE (default g2p-en) into RUN
	$(TRAIN)/bin/python -m training $(RECIPE) --run $(RUN) $(ARGS)

.PHONY: export
export: $(TRAIN)/.stamp ## export RUN to models/NAME/VERSION
	$(TRAIN)/bin/python -m export $(RUN) --name $(NAME) --version $(VERSION) $(ARGS)

##@ Develop

.PHONY: test
test: $(DEV)/.stamp $(NATIVE) ## run the tests (options: ARGS="tests/bundle -x")
	$(DEV)/bin/python -m pytest $(ARGS)

.PHONY: check
check: $(DEV)/.stamp ## lint, types, import rules, the wire contract, stubs, the Dockerfile
	$(DEV)/bin/ruff check
	$(DEV)/bin/ruff format --check
	$(DEV)/bin/mypy
	$(DEV)/bin/lint-imports
	cd proto && ../$(DEV)/bin/buf lint
	@echo 'stubs: as generated from proto/'
	@folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	  $(PROTOC) --python_out="$$folder" --pyi_out="$$folder" --grpc_python_out="$$folder"; \
	  diff -r -u -x __init__.py -x __pycache__ chairlift/v1 "$$folder/chairlift/v1"
	$(DEV)/bin/hadolint Dockerfile

.PHONY: format
format: $(DEV)/.stamp ## rewrite the code as the linter wants it
	$(DEV)/bin/ruff check --fix
	$(DEV)/bin/ruff format

.PHONY: bench
bench: $(DEV)/.stamp $(NATIVE) ## measure the server under load (options: ARGS=...)
	$(DEV)/bin/python -m bench $(ARGS)

.PHONY: bench-gpu
bench-gpu: .venv/bench-gpu/.stamp $(NATIVE) ## measure everything on an NVIDIA GPU (options: ARGS="--only steps")
	.venv/bench-gpu/bin/python -m bench.gpu $(ARGS)

.PHONY: native
native: ## compile the kernels and the front again (serve and test do it once); the front needs libgrpc-dev
	@rm -rf $(dir $(NATIVE))
	@$(MAKE) --no-print-directory $(NATIVE)

.PHONY: gpu-package
gpu-package: build/onnxruntime-gpu/.stamp ## fetch onnxruntime-gpu, without CUDA, for the tests that want it

.PHONY: proto
proto: $(DEV)/.stamp ## generate the stubs in chairlift/v1 from proto/
	$(PROTOC) --python_out=. --pyi_out=. --grpc_python_out=.

.PHONY: lock
lock: $(DEV)/.stamp ## lock requirements/*.in again (newest versions: UPGRADE=--upgrade)
	bash requirements/lock.sh $(DEV)/bin/uv $(UPGRADE)

.PHONY: image
image: ## build the serving image IMAGE from BASE_IMAGE (on a GPU: SERVING=serving-gpu)
	@test -n "$(ENGINE)" || { echo 'make image: needs one of podman, buildah, docker' >&2; exit 2; }
	$(ENGINE) $(ENGINE_ARGS) build --build-arg BASE_IMAGE=$(BASE_IMAGE) --build-arg REQUIREMENTS=$(SERVING) \
	  --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) $(BUILD_ARGS) --tag $(IMAGE) .

.PHONY: clean
clean: ## remove environments, caches and build outputs (data/, runs/ and models/ stay)
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

.PHONY: help
help: ## explain the verbs
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' \
	  $(MAKEFILE_LIST)

$(NATIVE): $(wildcard service/native/*)
	@rm -rf $(@D)
	@bash service/native/compile.sh $(@D)
	@touch $@

build/onnxruntime-gpu/.stamp: requirements/serving-gpu.txt $(DEV)/.stamp
	@rm -rf $(@D)
	@$(DEV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(@D) \
	  $$(grep --only-matching --extended-regexp '^onnxruntime-gpu==[0-9.]+' $<)
	@touch $@

# An environment is whole once its stamp is there; a changed lock makes it again from nothing.
.venv/%/.stamp: requirements/%.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("Python 3.11 or newer is needed, this is %d.%d; say PYTHON=..." % v[:2])'
	@echo "making .venv/$* from $< (once)"
	@rm -rf .venv/$*
	@$(PYTHON) -m venv .venv/$*
	@.venv/$*/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@
