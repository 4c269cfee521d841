# An image that evaluates without a network: defectbench, one environment, and the weights of the models that are named. See docs/cluster.md.
FROM python:3.11-slim

ARG ENVIRONMENT=mace
ARG TORCH_BACKEND=cpu
ARG MODELS=""
ARG DATASETS=""

ENV DEFECTBENCH_CACHE=/opt/defectbench-cache PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 MPLCONFIGDIR=/tmp/matplotlib
COPY . /opt/defectbench
RUN pip install /opt/defectbench \
    && defectbench environments create "$ENVIRONMENT" --torch-backend "$TORCH_BACKEND" \
    && if [ -n "$MODELS" ]; then defectbench models fetch $MODELS; fi \
    && if [ -n "$DATASETS" ]; then defectbench datasets fetch $DATASETS; fi \
    && chmod -R a+rwX "$DEFECTBENCH_CACHE"

WORKDIR /results
ENTRYPOINT ["defectbench"]
