# SPDX-License-Identifier: Apache-2.0

# docker build --target test .                                    the tests
# docker build -t sslctx-demo . && docker run --rm sslctx-demo    the demonstration in a small image
# docker run -d -p 8443:8443 sslctx-demo -serve :8443             its server, whose health is checked
#
# BASE and RUNTIME are of one Debian release: the program is linked with BASE's C library and libssl, and
# runs with RUNTIME's. make docker-base makes both where no registry is reachable.
#
# The images are named by tag and not by digest, so that each build has the security updates of their release; who needs
# the same bytes each time passes BASE and RUNTIME with a digest (name@sha256:...).
#
# Docker's old builder also makes the stages that stand before the wanted one: the demo runs the tests first.
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
# The openssl package brings the libssl of the release, whose own package is not named alike in all of them.
RUN apt-get update \
 && apt-get install -y --no-install-recommends openssl \
 && rm -rf /var/lib/apt/lists/*
COPY scripts/imageroot.sh /
COPY --from=demo-build /demo /usr/bin/sslctx-demo
# The demonstration is played in the new root, as the user of the image: with a library missing, there is no image.
RUN /imageroot.sh /usr/bin/sslctx-demo /image \
 && chroot --userspec=65532:65532 /image /usr/bin/sslctx-demo

# No shell and no packages, so that there is little to attack, and nothing that could update libssl in place either:
# its security updates come with `docker build --pull --no-cache`.
FROM scratch AS demo
COPY --from=demo-root /image /
USER 65532:65532
EXPOSE 8443
# For the server. The demonstration, which runs without arguments, has ended before the first check.
HEALTHCHECK --interval=30s --timeout=10s --start-period=5s --retries=3 \
    CMD ["/usr/bin/sslctx-demo", "-check", "127.0.0.1:8443"]
ENTRYPOINT ["/usr/bin/sslctx-demo"]
