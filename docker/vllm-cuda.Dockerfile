# vLLM on NVIDIA GPUs: serves a profile, or tunes. Build it from the repository's root:
#   docker build --file docker/vllm-cuda.Dockerfile --tag infertune-vllm:0.32.0 .
ARG VLLM_VERSION=0.32.0
FROM vllm/vllm-openai:v${VLLM_VERSION}

COPY pyproject.toml README.md LICENSE docker/constraints.txt /src/
COPY infertune /src/infertune
COPY docker/run-profile.sh /usr/local/bin/run-profile
RUN uv pip install --system --no-cache --constraint /src/constraints.txt /src \
    && useradd --create-home --uid 10001 infertune \
    && install --directory --owner infertune --group infertune /work /home/infertune/.cache

USER 10001
WORKDIR /work
ENV PROFILE=/profile.yaml VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=10s --retries=4 --start-period=20m \
    CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=5)"]
ENTRYPOINT ["run-profile"]
CMD ["serve"]
