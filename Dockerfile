# docker build --target cpu  -t keras-m3s .        && docker run --rm -v "$PWD/runs:/data/runs" keras-m3s demo
# docker build --target cuda -t keras-m3s:cuda .   && docker run --rm --gpus all -v "$PWD:/data" keras-m3s:cuda train ...

FROM python:3.11-slim AS base
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 TF_CPP_MIN_LOG_LEVEL=2
RUN useradd --create-home --uid 1000 m3s && install -d -o m3s /data /data/runs
COPY requirements-base.lock /src/
RUN pip install -r /src/requirements-base.lock
WORKDIR /data
ENTRYPOINT ["keras-m3s"]
CMD ["--help"]

FROM base AS cuda
# TensorFlow and JAX share CUDA 12's libraries; --backend chooses.
RUN pip install -c /src/requirements-base.lock "jax[cuda12]==0.10.2" "tensorflow[and-cuda]"
ENV KERAS_BACKEND=jax XLA_PYTHON_CLIENT_PREALLOCATE=false TF_FORCE_GPU_ALLOW_GROWTH=true
COPY . /src
RUN pip install --no-build-isolation --no-deps /src
USER m3s

# Last, so that a build without --target makes this one.
FROM base AS cpu
RUN pip install -c /src/requirements-base.lock "jax==0.10.2"
ENV KERAS_BACKEND=jax
COPY . /src
RUN pip install --no-build-isolation --no-deps /src
USER m3s
