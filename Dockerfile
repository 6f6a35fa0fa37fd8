# The one program, in an image that holds nothing else: no shell, no package
# manager, no user but a number. Built and started by docker-compose.yml; alone:
#
#   docker build -t writ:local .
#   docker run --rm writ:local version

FROM golang:1.26.8 AS build
# Exactly this Go, no other fetched while building.
ENV GOTOOLCHAIN=local GOFLAGS=-mod=readonly CGO_ENABLED=0
WORKDIR /src
# Modules change less often than the code: this layer is kept.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN go build -trimpath -buildvcs=false -ldflags="-s -w" -o /out/writ ./cmd/writ
# A volume takes owner and mode from the folder that it is put over.
RUN mkdir -m 0700 /out/state

FROM scratch
# The authorities by which hosts are known whose certificates are not pinned.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/writ /usr/bin/writ
COPY --from=build --chown=65532:65532 /out/state /var/lib/writ
USER 65532:65532
WORKDIR /var/lib/writ
VOLUME /var/lib/writ
ENV PATH=/usr/bin WRIT_CONFIG=/var/lib/writ/writ.yaml
EXPOSE 7420
ENTRYPOINT ["/usr/bin/writ"]
CMD ["serve"]
