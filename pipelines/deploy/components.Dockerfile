# The image in which a cluster runs the components.
#
# Build from the repository's root, and push it where the cluster pulls from:
#   docker build -f pipelines/deploy/components.Dockerfile -t g2p-components .
#
# Debian 13 brings the C library that the wheels of TFX 1.21 need.
FROM python:3.11-slim-trixie AS build

# Some packages of the lock have no wheel and are compiled.
RUN apt-get update \
    && apt-get install --no-install-recommends -y g++ \
    && rm -rf /var/lib/apt/lists/*
# `source_dir` of the configuration's `cluster`.
WORKDIR /project
COPY setup.py pyproject.toml README.md LICENSE ./
COPY constraints constraints
COPY dev dev
COPY keras_moe keras_moe
COPY pipelines pipelines
# The set-up of a checkout: locked versions, hashes verified.
RUN bash dev/setup.sh

FROM python:3.11-slim-trixie
COPY --from=build /project /project
WORKDIR /project
# The components find code by its import path.
ENV PATH=/project/.venv/bin:$PATH \
    PYTHONPATH=/project \
    KERAS_BACKEND=tensorflow \
    TF_CPP_MIN_LOG_LEVEL=3
# The compiled pipeline brings its own command.
CMD ["python", "-m", "pipelines.g2p.local_runner", "--help"]
