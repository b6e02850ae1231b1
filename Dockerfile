# cssd-geo as a batch job, in this folder and as its owner:
# docker run --rm --user "$(id -u):$(id -g)" -v "$PWD":/data cssd-geo classify scene.tif -o map.tif -m model.safetensors
#
# TORCH          what pip installs as torch: a version as in constraints.txt, or the path of a wheel.
# PIP_FIND_LINKS a page of wheels, or a folder that the build can see, for pip to look into. On machines without an NVIDIA
#                GPU, one with a CPU build of torch makes the image several GB smaller; pip's default carries CUDA, on
#                linux/arm64 too.
FROM python:3.11-slim AS build

# The compiler stays behind: only the wheel that it helped to make goes on.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml setup.py README.md LICENSE /src/
COPY cssd_geo /src/cssd_geo
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /src

FROM python:3.11-slim

LABEL org.opencontainers.image.title="cssd-geo" \
      org.opencontainers.image.description="Class maps with calibrated confidence from hyperspectral scenes and a few labelled polygons" \
      org.opencontainers.image.licenses="Apache-2.0"

# rasterio's wheel takes libexpat from the system, and slim images do not have it.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libexpat1 \
    && rm -rf /var/lib/apt/lists/*

# torch comes first and alone: it is the largest layer and the one that changes least.
ARG TORCH="torch==2.13.0"
ARG PIP_FIND_LINKS=""
COPY constraints.txt /src/
RUN pip install --no-cache-dir --root-user-action=ignore --constraint /src/constraints.txt "$TORCH"

COPY --from=build /wheels /src
RUN pip install --no-cache-dir --root-user-action=ignore --constraint /src/constraints.txt /src/*.whl \
    && rm -rf /src \
    && useradd --uid 1000 --home-dir /tmp --no-create-home analyst \
    && install --directory --owner=1000 --group=1000 /data

# Nothing is written outside of /data and /tmp, so the root file system may be read-only (--read-only --tmpfs /tmp).
ENV HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

USER 1000:1000
WORKDIR /data
ENTRYPOINT ["cssd-geo"]
CMD ["--help"]
