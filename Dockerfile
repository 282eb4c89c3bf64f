# SPDX-License-Identifier: Apache-2.0

# docker build --target test .                                    the tests
# docker build -t sslctx-demo . && docker run --rm sslctx-demo    the demonstration in a small image
# docker run -d -p 8443:8443 sslctx-demo -serve :8443             its server, with a health check
#
# BASE and RUNTIME must be of one Debian release: the program is linked with the C library and
# libssl of BASE, and runs with those of RUNTIME. make docker-base makes both images without a
# registry.
#
# The images have a tag and no digest, so that each build gets the security updates of their
# release. For the same bytes each time pass BASE and RUNTIME with a digest (name@sha256:...).
#
# Docker's old builder also builds the stages before the wanted one: with it the demo first runs the
# tests.
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
ARG TESTFLAGS=
RUN make test TESTFLAGS="$TESTFLAGS"

FROM deps AS demo-build
COPY . .
RUN go build -trimpath -ldflags='-s -w' -o /demo ./demo

FROM ${RUNTIME} AS demo-root
# The openssl package brings the libssl of the release. The name of libssl's own package differs
# between releases.
RUN apt-get update \
 && apt-get install -y --no-install-recommends openssl \
 && rm -rf /var/lib/apt/lists/*
COPY scripts/imageroot.sh /
COPY --from=demo-build /demo /usr/bin/sslctx-demo
# The demonstration runs in the new root, as the user of the image. If a library is missing, the
# build fails.
RUN /imageroot.sh /usr/bin/sslctx-demo /image \
 && chroot --userspec=65532:65532 /image /usr/bin/sslctx-demo

# The image has no shell and no packages, so that there is little to attack. So nothing can update
# libssl in place either: `docker build --pull --no-cache` brings its security updates.
FROM scratch AS demo
COPY --from=demo-root /image /
USER 65532:65532
EXPOSE 8443
# The health check is for the server. The demonstration (no arguments) ends before the first check.
HEALTHCHECK --interval=30s --timeout=10s --start-period=5s --retries=3 \
    CMD ["/usr/bin/sslctx-demo", "-check", "127.0.0.1:8443"]
ENTRYPOINT ["/usr/bin/sslctx-demo"]
