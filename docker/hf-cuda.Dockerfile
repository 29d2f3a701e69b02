# Hugging Face pipelines on NVIDIA GPUs: answers prompts with a profile, or tunes. CUDA is part of torch's wheels.
#   docker build --file docker/hf-cuda.Dockerfile --tag infertune-hf:5.19.0 .
FROM python:3.12.12-slim-bookworm

# A compiler: torch compiles kernels for profiles with a static cache.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir torch==2.13.0 transformers==5.19.0 accelerate==1.15.0
COPY pyproject.toml README.md LICENSE docker/constraints.txt /src/
COPY infertune /src/infertune
COPY docker/run-profile.sh /usr/local/bin/run-profile
RUN pip install --no-cache-dir --constraint /src/constraints.txt /src \
    && useradd --create-home --uid 10001 infertune \
    && install --directory --owner infertune --group infertune /work /home/infertune/.cache

USER 10001
WORKDIR /work
ENV PROFILE=/profile.yaml
HEALTHCHECK --interval=60s --timeout=30s CMD ["infertune", "doctor"]
ENTRYPOINT ["run-profile"]
CMD ["answer"]
