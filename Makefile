# Homeward. `make demo` shows what it does, `make test` checks that it does it.
GO      ?= go
BIN     := bin/homeward
TOOLS   := $(CURDIR)/bin
LINT    := $(TOOLS)/golangci-lint
LINTVER := v2.15.0
PKGS    := ./...

# Sub-targets run in order: two cores, and the guest needs its tools first.
.NOTPARALLEL:
.PHONY: build demo guest test check deps lint fmt vet race fuzz system long bench clean

build: $(BIN)
$(BIN): $(shell find . -name '*.go' -not -path './bin/*') go.mod go.sum
	@CGO_ENABLED=0 $(GO) build -trimpath -o $@ ./cmd/homeward

# The whole round trip on this machine; ARGS passes flags, e.g. ARGS="--guest builtin --keep".
demo: build guest
	@$(BIN) demo $(ARGS)

# Kernel and initrd of the small Linux guest, where QEMU is installed.
guest:
	@sh hack/guest.sh >&2

# What .ci/run calls. Installs what it needs on Debian 12, then everything below.
test: deps guest check race fuzz system

deps:
	sh hack/deps.sh

check: fmt vet lint
fmt:
	@out=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$out" || { echo "gofmt these files:"; echo "$$out"; exit 1; }
	$(GO) mod verify
vet:
	$(GO) vet $(PKGS)
lint: $(LINT)
	$(LINT) run $(PKGS)
	sh hack/shape.sh
$(LINT):
	GOBIN=$(TOOLS) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINTVER)

race:
	$(GO) test -race -timeout 20m $$($(GO) list ./... | grep -v '/test$$\|/test/')

# Every fuzz target for a few seconds; FUZZTIME=10m for a long run.
FUZZTIME ?= 3s
fuzz:
	sh hack/fuzz.sh $(FUZZTIME)

# Whole-system tests: real processes, sockets, guests; judged by QEMU, nbdkit, libnbd, fio, PostgreSQL.
system: build
	$(GO) test -count=1 -parallel 4 -timeout 30m ./test/...

# The randomised proofs, long: HOMEWARD_CASES rounds each.
long: build
	HOMEWARD_CASES=$${HOMEWARD_CASES:-2000} $(GO) test -timeout 3h -run 'Random|Model|Powerloss|Kill' ./...

# Homeward beside its peers: quick, under five minutes. FULL=1: all settings, and
# docs/benchmarks.md anew; about an hour, on a machine that does nothing else.
bench: build
	$(GO) run ./bench -install $(if $(FULL),-full -docs docs) $(ARGS)

clean:
	rm -rf bin cache
