# The agent as an image: for a DaemonSet, or beside Docker. The hooks and the wrapper are in it too,
# for an init container that copies them to the node (examples/kubernetes).
#   docker build -t oakum .            buildah bud -t oakum .
# Any Debian 12 or Ubuntu 24.04 base will do: --build-arg BASE=...
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS build
WORKDIR /src
COPY scripts/lib.sh scripts/packages.txt scripts/
RUN bash -c '. scripts/lib.sh && need_packages build package cache'
COPY . .
# The .deb carries the list of libraries that the next stage needs.
RUN cmake --preset release -DOAKUM_TESTS=OFF \
 && cmake --build --preset release \
 && cpack --config build/release/CPackConfig.cmake -B /out

FROM ${BASE}
COPY --from=build /out/*.deb /tmp/
RUN apt-get -qq update \
 && DEBIAN_FRONTEND=noninteractive apt-get -qq --yes --no-install-recommends install /tmp/oakum_*.deb \
 && rm -rf /tmp/oakum_*.deb /var/lib/apt/lists/*
# /etc/oakum: the policy; /run/oakum: the socket, shared with the host.
VOLUME ["/etc/oakum", "/run/oakum"]
ENTRYPOINT ["/usr/bin/oakum-agent"]
CMD ["--config", "/etc/oakum/config.json", "--events", "-"]
