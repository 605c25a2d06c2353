# Tripline in a container: built in one stage, run in another by a user without rights. No secret goes in: settings
# come from a file that is mounted, and from the environment.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The caches outlive the build, and are not in the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --profile dist --locked --bin tripline && cp target/dist/tripline /usr/local/bin/tripline

FROM debian:bookworm-slim
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates libssl3 && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --no-create-home tripline \
    && install --directory --owner=tripline --group=tripline --mode=0700 /var/lib/tripline
COPY --from=build /usr/local/bin/tripline /usr/local/bin/tripline
USER 10001:10001
# Progress is kept here: mount a volume that outlives the container.
WORKDIR /var/lib/tripline
VOLUME ["/var/lib/tripline"]
# With the configuration of CMD; another one needs a health check of its own.
HEALTHCHECK --interval=15s --timeout=30s --start-period=60s --retries=3 \
    CMD ["tripline", "healthcheck", "--config", "/etc/tripline/tripline.toml"]
ENTRYPOINT ["tripline"]
CMD ["run", "--config", "/etc/tripline/tripline.toml"]
