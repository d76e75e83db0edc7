# What "make images" makes, for those who have Docker:
#   docker build --build-arg PROGRAM=manager --build-arg VERSION=TAG --tag REGISTRY/manager:TAG .     and the same for worker
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
ARG PROGRAM TARGETOS TARGETARCH VERSION=dev
WORKDIR /src
COPY . .
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false -ldflags="-s -w -buildid= -X github.com/shard-io/shard-controller/examples/internal/process.stamped=$VERSION" -o /program ./examples/$PROGRAM

FROM scratch
COPY --from=build --chmod=555 /program /program
USER 65532:65532
ENTRYPOINT ["/program"]
