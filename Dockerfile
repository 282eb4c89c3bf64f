# SPDX-License-Identifier: Apache-2.0

# docker build --target test .                                    the tests
# docker build -t sslctx-demo . && docker run --rm sslctx-demo    the demonstration in a small image
#
# BASE and RUNTIME are of one Debian release: the program is linked with BASE's C library and libssl.
ARG BASE=golang:1.26-bookworm
ARG RUNTIME=debian:bookworm-slim

FROM ${BASE} AS deps
RUN apt-get update \
 && apt-get install -y --no-install-recommends curl gcc libc6-dev libssl-dev make openssl pkg-config \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download

FROM deps AS test
COPY . .
RUN make test

FROM deps AS demo-build
COPY . .
RUN go build -trimpath -o /demo ./demo

FROM ${RUNTIME} AS demo
# The openssl package brings the libssl of the release, whose own package is not named alike in all of them.
RUN apt-get update \
 && apt-get install -y --no-install-recommends openssl \
 && rm -rf /var/lib/apt/lists/*
COPY --from=demo-build /demo /usr/local/bin/sslctx-demo
USER 65532:65532
CMD ["sslctx-demo"]
