# The two commands of the README are "go run ./cmd/portreeve serve" and "make test".
GO     ?= go
export CGO_ENABLED ?= 0

.PHONY: tree oidc torture man build test tools fast race clients lab check fuzz docs bench clean contract directory database

build: ## one static binary
	$(GO) build -trimpath $(if $(RELEASE),-ldflags "-X main.release=$(RELEASE)") -o bin/portreeve ./cmd/portreeve

# Everything CI runs. The fast suite comes first, so that most mistakes show within two minutes.
test: tools check fast race clients contract directory oidc database lab acme

tools: ## real clients and servers, by apt-get when it may
	@test/tools/install

check: ## form, vet, and a static build
	@fmt=$$(gofmt -l $$(git ls-files '*.go' 2>/dev/null || find . -name '*.go')); test -z "$$fmt" || { echo "gofmt differs in: $$fmt"; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags clients ./test/clients
	$(GO) vet -tags oidc ./test/oidc
	$(GO) vet -tags lab ./test/netlab ./internal/nat
	$(GO) build -o /dev/null ./cmd/portreeve

# Whole servers, and tests that watch the clock, run one package at a time.
WHOLE = ./internal/server ./internal/sshd ./test/...
UNITS = $$($(GO) list ./... | grep -v -e /internal/server$$ -e /internal/sshd$$ -e /test/)

fast: ## unit, contract, transcript and script tests
	$(GO) test $(UNITS)
	$(GO) test -p 1 $(WHOLE)

race: ## the same under the race detector, which needs cgo
	CGO_ENABLED=1 $(GO) test -race -short -timeout 20m $(UNITS)
	CGO_ENABLED=1 $(GO) test -race -short -p 1 -timeout 20m $(WHOLE)

# The trees are a part of the Go sources here, and all of them in "make tree".
clients: ## real clients against the real server
	$(GO) test -count=1 -short -tags clients -timeout 30m ./test/clients

tree: ## the Go sources up and down with real clients in every mode; takes 15 minutes
	$(GO) test -count=1 -tags clients -timeout 60m -v -run 'Tree' ./test/clients

PEERS ?= bin/peers
LABLOG ?= bin/lab.log
# Root, where it can be had without a question; otherwise a user namespace has to do.
LABROOT = $(shell test "$$(id -u)" = 0 || ! sudo -n true 2>/dev/null || echo "-exec 'sudo -E env PATH=$$PATH'")
lab: ## the doctor in networks with NAT, firewalls and helpers; needs root or user namespaces
	@test/tools/peers $(PEERS)
	@GO=$(GO) PORTREEVE_PEERS=$(abspath $(PEERS)) test/netlab/run $(LABLOG) $(LABROOT)
	$(GO) test -count=1 -tags lab -run Lab -timeout 5m -v $(LABROOT) ./internal/nat

contract: ## drive the API with a client made from its contract, and read traces with the collector's code
	cd test/openapi && $(GO) generate ./... && $(GO) test -count=1 ./...
	cd test/otlp && $(GO) vet ./... && $(GO) test -count=1 ./...

directory: ## log-ins against a real directory
	$(GO) test -count=1 -tags directory -run Directory ./internal/auth

oidc: ## log-ins of administrators by a real OpenID Connect provider
	$(GO) test -count=1 -tags oidc ./test/oidc

database: ## the store on a real PostgreSQL, which the tests start
	$(GO) test -count=1 -tags postgres ./internal/store
	$(GO) test -count=1 -tags postgres -run Postgres ./test/torture

docs: ## generated reference pages
	$(GO) test ./ftp ./internal/config -run 'Docs|Reference' -update

FUZZTIME ?= 60s
fuzz: ## every fuzz target for FUZZTIME each
	@set -e; for pkg in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "== $$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done

bench: ## the benchmark page, with the peers; as root, on a quiet machine, for hours
	@ROUNDS="$(ROUNDS)" BENCH="$(BENCH)" test/bench/run

torture: ## kill -9, upgrades and floods under load; writes docs/torture.md
	$(GO) test -count=1 -tags torture -timeout 60m -v ./test/torture -report $(CURDIR)/docs/torture.md

man: build ## manual pages and completions, for the packages
	rm -rf bin/man bin/completion && mkdir -p bin/completion
	bin/portreeve man bin/man && gzip -9n bin/man/*.1
	bin/portreeve completion bash > bin/completion/portreeve.bash
	bin/portreeve completion zsh > bin/completion/_portreeve
	bin/portreeve completion fish > bin/completion/portreeve.fish

.PHONY: packages package-test acme fips
fips: ## bin/portreeve-fips, with cryptography in FIPS 140-3 mode, and its test; 2 minutes the first time
	$(GO) test -count=1 -tags fips ./test/fips

acme: ## certificates from a real ACME authority; half a minute
	cd test/acme && $(GO) vet ./... && $(GO) test -count=1 ./...

VERSION ?= $(shell git log -1 --format=0.0.0~%cd.%h --date=format:%Y%m%d%H%M)
ARCH ?= $(shell $(GO) env GOARCH)
packages: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct)
packages: export VERSION := $(VERSION)
packages: export ARCH := $(ARCH)
# Newer nfpm than the pinned one needs modules that not every mirror has.
packages: ## deb and rpm in bin/; the same commit makes the same bytes
	$(MAKE) man RELEASE=$(VERSION)
	cd packaging/build && $(GO) build -o ../../bin/nfpm github.com/goreleaser/nfpm/v2/cmd/nfpm
	set -e; for p in deb rpm; do bin/nfpm package -f packaging/nfpm.yaml -p $$p -t bin/; done

package-test: ## install the packages in a clean Debian that systemd boots; as root, 4 minutes the first time
	@test/tools/debian bin/debian
	$(GO) test -count=1 -tags package -timeout 20m -v ./test/packages

clean:
	rm -rf bin portreeve-data
