# The images of Holdfast: docker build --target api -t holdfast/api . (or worker, ctl, simdep, load)
#
# Each is one static binary and the certificates of public authorities, on nothing: no shell, no packages,
# no user database, so nothing to patch but the program. It builds with BuildKit and without it, which is
# why it mounts no caches. docs/containers.md says how it builds where no registry can be reached.
ARG GO_IMAGE=golang:1.26.8-bookworm

# The compiler runs on the builder's own platform and compiles for the target's. Without BuildKit neither is
# set, and both are this machine's.
FROM --platform=${BUILDPLATFORM:-linux} ${GO_IMAGE} AS build
LABEL com.example.holdfast.stage=build
WORKDIR /src
# Where modules come from; unset, Go's own defaults.
ARG GOPROXY GOSUMDB GONOSUMDB GOPRIVATE
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS TARGETARCH VERSION=unstamped
RUN module=$(go list -m) && \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
    -ldflags "-s -w -X $module/internal/app.stamp=$VERSION" \
    -o /out/ ./cmd/api ./cmd/worker ./cmd/ctl ./loadtest/simdep/cmd/simdep ./loadtest/cmd/load && \
    mkdir /out/reports

# What all images have. The number is a user that no machine has.
FROM scratch AS base
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
USER 65532:65532

FROM base AS api
COPY --from=build /out/api /api
ENV HOLDFAST_ADMIN_ADDR=0.0.0.0:8081
EXPOSE 8080 8081
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["/api", "healthcheck"]
ENTRYPOINT ["/api"]

FROM base AS worker
COPY --from=build /out/worker /worker
ENV HOLDFAST_ADMIN_ADDR=0.0.0.0:8081
EXPOSE 8081
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["/worker", "healthcheck"]
ENTRYPOINT ["/worker"]

FROM base AS ctl
COPY --from=build /out/ctl /ctl
ENTRYPOINT ["/ctl"]

# The simulated risk and notification services and payout rail.
FROM base AS simdep
COPY --from=build /out/simdep /simdep
EXPOSE 9090
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 CMD ["/simdep", "healthcheck"]
ENTRYPOINT ["/simdep"]
CMD ["--addr=0.0.0.0:9090"]

# The load generator. Its folder for reports belongs to its user, and so does a new volume that is put there.
FROM base AS load
COPY --from=build /out/load /load
COPY --from=build --chown=65532:65532 /out/reports /reports
ENTRYPOINT ["/load"]
CMD ["run"]
