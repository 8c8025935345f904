# For CPUs:  docker build --tag convmae_det .
# For GPUs:  docker build --tag convmae_det --build-arg BASE=pytorch/pytorch:2.7.1-cuda12.8-cudnn9-runtime .
# BASE is any image with Python 3.10 or newer; PyTorch is installed from TORCH_INDEX where it has none. docs/docker.md
ARG BASE=python:3.12-slim

FROM python:3.12-slim AS wheel
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir "build>=1.0" && python -m build --wheel --outdir /dist

FROM ${BASE}
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Triton, which compiles the encoder on a GPU, calls a C compiler.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --no-install-recommends --yes gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
# Packages of the base are seen, and its PyTorch is kept.
RUN python3 -m venv --system-site-packages /opt/convmae_det
ENV PATH=/opt/convmae_det/bin:$PATH
# The largest layer by far; those that follow change with the project.
RUN pip install --no-cache-dir "torch>=2.6" "torchvision>=0.21" --index-url "${TORCH_INDEX}"
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist pip install --no-cache-dir /dist/*.whl
RUN convmae-det install-detectron2
RUN useradd --create-home --uid 10001 convmae && install --directory --owner convmae /workspace
USER 10001
WORKDIR /workspace
HEALTHCHECK --interval=30m --timeout=2m --start-period=1m CMD ["convmae-det", "doctor"]
ENTRYPOINT ["convmae-det"]
CMD ["doctor"]
