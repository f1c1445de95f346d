# dj-migrate in an image: docker build -t dj-migrate . && docker run --rm -e DJ_HOST -e DJ_USER -e DJ_PASS dj-migrate inspect
# The image itself was never built; tests/project/test_repository.py runs what its steps run.
FROM rust:1-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv
WORKDIR /source
COPY . .
RUN python3 -m venv /build && /build/bin/pip install --quiet 'maturin>=1.9,<2'
RUN /build/bin/maturin build --release --quiet --out /wheels --interpreter python3

FROM python:3.11-slim-bookworm
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir /wheels/*.whl
WORKDIR /work
ENTRYPOINT ["dj-migrate"]
