# Everything here works in a fresh clone with Go alone, but `race` (a C compiler) and `lint` (its tools are built once, into bin/).

GO      ?= go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X qosctl/cli.version=$(VERSION)
# Of all fuzz targets together, shared out among them.
FUZZTIME ?= 60s
DEMO     ?=

export CGO_ENABLED = 0

.DEFAULT_GOAL := help
.PHONY: help build demo test race fuzz bench lint fmt e2e clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## bin/qosctl and bin/linpack, static
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/qosctl .
	$(GO) build -trimpath -ldflags '-s -w' -o bin/linpack ./examples/linpack

demo: build ## the main job, on this machine's real cores (as root; DEMO="--policy none" and other flags)
	$(GO) run ./examples/demo -qosctl bin/qosctl -linpack bin/linpack $(DEMO)

test: ## vet, gofmt, and all unit, property and contract tests (real cgroups as root); says what was skipped
	$(GO) vet ./...
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "gofmt: not formatted:"; echo "$$unformatted"; exit 1; fi
	@GO=$(GO) $(GO) run tools/test.go -shuffle=on -timeout 5m ./...

race: export CGO_ENABLED = 1
race: ## the same tests under the race detector
	@GO=$(GO) $(GO) run tools/test.go -race -shuffle=on -timeout 15m ./...

fuzz: ## every fuzz target for its share of FUZZTIME
	GO=$(GO) tools/fuzz $(FUZZTIME)

bench: build ## cgroup reader, policies, linpack; the idle agent's memory, start and size; downtime of stop and restore (as root)
	@echo "load: $$(cut -d ' ' -f 1-3 /proc/loadavg) (figures count only below 4)"
	$(GO) test -run '^$$' -bench . -benchmem ./...
	$(GO) run ./examples/bench -qosctl bin/qosctl
	$(GO) run ./examples/ckptbench -qosctl bin/qosctl

lint: bin/golangci-lint bin/gofumpt ## gofumpt and golangci-lint, as pinned in tools/go.mod
	@unformatted=$$(bin/gofumpt -l .); if [ -n "$$unformatted" ]; then echo "gofumpt: not formatted:"; echo "$$unformatted"; exit 1; fi
	bin/golangci-lint run ./...

fmt: bin/gofumpt ## format all Go files
	bin/gofumpt -w .

bin/golangci-lint: tools/go.mod tools/go.sum
	@echo "building golangci-lint: minutes, once for each version"
	$(GO) build -C tools -trimpath -ldflags '-s -w' -o ../bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint

bin/gofumpt: tools/go.mod tools/go.sum
	$(GO) build -C tools -trimpath -ldflags '-s -w' -o ../bin/gofumpt mvdan.cc/gofumpt

e2e: build ## the main job unharmed, with the agent killed twenty times, and uncontrolled (which must miss), as root
	tools/e2e

clean: ## remove what was built
	rm -rf bin
