# One image for every peer.
#
#   docker compose up                                   four peers on this machine
#   docker build -t gossipdistill .                     the image alone
#   docker run --rm --init gossipdistill run            four peers inside one container
#
# An ordinary build needs no argument. The PIP_* arguments reach pip as they are: give PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL
# where a CPU build of torch is offered, or Linux gets the CUDA build and several GB with it.
ARG BASE=python:3.11.13-slim-bookworm

# The dependencies as a list of their own, so that another edit of pyproject.toml leaves the layer with torch alone.
FROM ${BASE} AS needs
COPY pyproject.toml /
RUN python -c "import tomllib; print(*tomllib.load(open('/pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
    > /requirements.txt

FROM ${BASE}
# A named volume takes its owner and its first content from the folder that it is mounted on: results, the roster with
# everybody's public keys, and one peer's own secret.
RUN useradd --create-home --uid 1000 peer \
    && install --directory --owner=peer --group=peer /runs /roster \
    && install --directory --owner=peer --group=peer --mode=0700 /secret

ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_NO_INDEX
ENV PIP_CACHE_DIR=/var/cache/pip PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

COPY constraints.txt constraints-image.txt /build/
COPY --from=needs /requirements.txt /build/
# What no run needs goes in the same layer: tests, headers and compilers of the libraries, a fifth of the image.
RUN --mount=type=cache,target=/var/cache/pip \
    pip install --constraint /build/constraints.txt --constraint /build/constraints-image.txt --requirement /build/requirements.txt \
    && cd "$(python -c 'import sysconfig; print(sysconfig.get_path("platlib"))')" \
    && rm -rf torch/include torch/test \
    && find torch/bin -type f ! -name torch_shm_manager -delete \
    && find . -type d -name tests -prune -exec rm -rf {} +

RUN --mount=type=bind,target=/source,rw \
    --mount=type=cache,target=/var/cache/pip \
    pip install --no-deps /source && gossipdistill --help > /dev/null
COPY --chown=peer:peer peers/compose-4.toml /roster/

USER peer
WORKDIR /home/peer
ENV PYTHONUNBUFFERED=1 GOSSIPDISTILL_OUT=/runs
ENTRYPOINT ["gossipdistill"]
CMD ["--help"]
