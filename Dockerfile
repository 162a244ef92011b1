# The serving image: python -m service with the embedded models, and nothing that trains.
# BASE_IMAGE needs `python` (3.11 to 3.14) with venv. On an NVIDIA GPU: --build-arg REQUIREMENTS=serving-gpu
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS environment
ARG REQUIREMENTS=serving-cpu
COPY requirements/${REQUIREMENTS}.txt /tmp/requirements.txt
# pip is left out of what is shipped: nothing is installed later.
RUN python -m venv /opt/chairlift \
  && /opt/chairlift/bin/python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes \
  --requirement /tmp/requirements.txt \
  && /opt/chairlift/bin/python -m pip check \
  && /opt/chairlift/bin/python -m pip uninstall --yes pip setuptools

# Kernels and front. The libraries that the front needs, gRPC's own among them, go along in build/native/lib; without
# a compiler the image has neither, ONNX Runtime decodes everything, and grpc.aio takes the calls.
FROM ${BASE_IMAGE} AS native
WORKDIR /srv/chairlift
COPY service/native service/native
# hadolint ignore=DL3008
RUN if command -v apt-get; then apt-get update \
  && apt-get install --yes --no-install-recommends gcc libc6-dev libgrpc-dev; fi \
  && bash service/native/compile.sh build/native \
  && bash service/native/gather.sh build/native

FROM ${BASE_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Chairlift" \
  org.opencontainers.image.description="gRPC service for recurrent encoder-decoder models" \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}"

COPY --from=environment /opt/chairlift /opt/chairlift
WORKDIR /srv/chairlift
COPY bundle bundle
COPY chairlift chairlift
COPY service service
COPY --from=native /srv/chairlift/build build
COPY models models
# onnxruntime would report its use to its makers.
ENV ORT_DISABLE_TELEMETRY=1 \
  PATH=/opt/chairlift/bin:$PATH \
  PYTHONUNBUFFERED=1 \
  PYTHONDONTWRITEBYTECODE=1 \
  CHAIRLIFT_LISTEN=0.0.0.0:50051 \
  CHAIRLIFT_HTTP=0.0.0.0:8080

# Nothing that makes models is here, the server starts, and it need not compile its modules at each start.
RUN python -c 'import importlib.util as i; found = [n for n in ("torch", "onnx", "training", "export") if i.find_spec(n)]; assert not found, found' \
  && python -c 'import service.__main__' \
  && python -m compileall -q bundle chairlift service

USER 10001:10001
EXPOSE 50051 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "service"]
