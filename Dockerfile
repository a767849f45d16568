# All images of a stack; docker-compose.yml names them. Every image is Debian with at most one server, from the same
# Debian package that `bin/mfup` installs, and the program `flack`: the instances, and the health checks of the servers.
# Where no registry of images can be reached, deploy/docker/base-images makes the two base images.
ARG DEBIAN=debian:bookworm-slim
ARG RUST=rust:1.95-bookworm

# The files that decide which dependencies are built, with empty programs. Unless they change, the dependencies are not
# built again.
FROM ${DEBIAN} AS manifests
WORKDIR /source
COPY . .
RUN deploy/docker/manifests /manifests

FROM ${RUST} AS build
# A folder in the context with programs that are built already; nothing is compiled then. For tests.
ARG PREBUILT
WORKDIR /source
COPY --from=manifests /manifests .
RUN deploy/docker/compile dependencies
COPY . .
RUN deploy/docker/compile programs /programs

# One user for all images, so that HAProxy and its agent can share sockets. Each container has a volume of its own here.
FROM ${DEBIAN} AS base
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Flack" \
      org.opencontainers.image.description="One chat app, as a monolith and as services" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}"
RUN groupadd --gid 10000 flack \
 && useradd --uid 10000 --gid 10000 --no-create-home --home-dir /var/lib/flack --shell /usr/sbin/nologin flack \
 && install --directory --owner=flack --group=flack --mode=0700 /var/lib/flack
WORKDIR /var/lib/flack

# Every program of Flack. ca-certificates is for link previews, which fetch public pages.
FROM base AS flack
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build /programs/flack /usr/local/bin/
# `mf container secrets` mounts the volumes of all containers. An empty volume takes over the owner of its folder here.
RUN flack --install /usr/local/bin \
 && for container in etcd etcd-2 etcd-3 nats nats-2 nats-3 haproxy haproxy-2 \
        monolith ui users tokens messages websocket search recommend tag \
        postgres-flack postgres-ui postgres-users postgres-tokens postgres-messages postgres-websocket \
        postgres-search postgres-recommend postgres-tag; do \
        install --directory --owner=flack --group=flack --mode=0700 "/volumes/$container"; \
    done
USER 10000:10000
CMD ["mf", "--help"]

FROM base AS etcd
RUN apt-get update && apt-get install --yes --no-install-recommends etcd-server && rm -rf /var/lib/apt/lists/*
COPY --from=build /programs/mf /usr/local/bin/
# Debian 12's etcd does not start on this architecture without it; others ignore it.
ENV ETCD_UNSUPPORTED_ARCH=arm64
USER 10000:10000
CMD ["etcd"]

FROM base AS nats
RUN apt-get update && apt-get install --yes --no-install-recommends nats-server && rm -rf /var/lib/apt/lists/*
COPY --from=build /programs/mf /usr/local/bin/
USER 10000:10000
CMD ["nats-server", "-c", "/var/lib/flack/secrets/nats.conf"]

# Also the image of the agent, which checks a configuration with HAProxy before it is used.
FROM base AS haproxy
RUN apt-get update && apt-get install --yes --no-install-recommends haproxy && rm -rf /var/lib/apt/lists/*
COPY --from=build /programs/mf /programs/flack-haproxy-agent /usr/local/bin/
USER 10000:10000
CMD ["haproxy", "-W", "-S", "unix@master.sock", "-f", "haproxy.cfg"]

FROM base AS postgres
# Without the cluster that Debian's package would create in the image.
RUN mkdir /etc/postgresql-common \
 && echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf \
 && apt-get update && apt-get install --yes --no-install-recommends postgresql && rm -rf /var/lib/apt/lists/* \
 && ln --symbolic /usr/lib/postgresql/*/bin/pg_isready /usr/local/bin/
COPY --from=build /programs/mf /usr/local/bin/
# PostgreSQL's fast shutdown.
STOPSIGNAL SIGINT
USER 10000:10000
