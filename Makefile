# Everything here works in a fresh clone with Go alone, but `race` (a C compiler) and `lint` (its tools are built once, into bin/).

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X qosctl/cli.version=$(VERSION)
# Of all fuzz targets together, shared out among them.
FUZZTIME ?= 60s
DEMO     ?=
# Of soak and chaos: how many seeds (chaos: 20 unless they are said), and the first.
SEEDS    ?= 2000
SEED     ?= 1
# Of bench-control: seeds of each scenario.
CONTROL_SEEDS ?= 300

export CGO_ENABLED = 0

.DEFAULT_GOAL := help
.PHONY: help build demo curves test race fuzz bench bench-control soak chaos lint fmt package e2e keystone page-test clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## bin/qosctl and bin/linpack, static
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/qosctl .
	$(GO) build -trimpath -ldflags '-s -w' -o bin/linpack ./examples/linpack

demo: build ## the main job, on this machine's real cores (as root; DEMO="--policy none" and other flags)
	$(GO) run ./examples/demo -qosctl bin/qosctl -linpack bin/linpack $(DEMO)

curves: build ## the demo's allocations over time against the simulator's: five times, and the median of ∫|sim − real| / ∫real (as root, on a machine that does nothing else)
	$(GO) run ./examples/demo -qosctl bin/qosctl -linpack bin/linpack -curves 5

# Four at a time on two cores too: an agent's tests mostly wait.
test: ## vet, gofmt, and all unit, property and contract tests (real cgroups as root); says what was skipped
	$(GO) vet ./...
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "gofmt: not formatted:"; echo "$$unformatted"; exit 1; fi
	@GO=$(GO) $(GO) run tools/test.go -shuffle=on -parallel 4 -timeout 10m ./...

race: export CGO_ENABLED = 1
race: ## the same tests under the race detector
	@GO=$(GO) $(GO) run tools/test.go -race -shuffle=on -parallel 4 -timeout 15m ./...

fuzz: ## every fuzz target for its share of FUZZTIME
	GO=$(GO) tools/fuzz $(FUZZTIME)

bench: build ## cgroup reader, policies, linpack, scrapes; the agent idle and with 1,000 containers; downtime of stop and restore (as root)
	@echo "load: $$(cut -d ' ' -f 1-3 /proc/loadavg) (figures count only below 4)"
	$(GO) test -run '^$$' -bench . -benchmem -timeout 2h ./...
	$(GO) run ./examples/bench -qosctl bin/qosctl
	$(GO) run ./examples/ckptbench -qosctl bin/qosctl

soak: ## clusters of agents under partitions, kills, pauses and losses, in virtual time: SEEDS seeds from SEED on
	QOSCTL_SEED=$(SEED) QOSCTL_SEEDS=$(SEEDS) $(GO) test ./agent -run 'TestJepsen' -count=1 -timeout 6h

chaos: SEEDS = 20
chaos: ## agents that are real processes under kill -9, SIGSTOP and cuts from Mesos: SEEDS seeds from SEED on (as root; 40 s each, two at a time)
	QOSCTL_E2E=1 QOSCTL_SEED=$(SEED) QOSCTL_CHAOS=$(SEEDS) $(GO) test ./e2e -run '^TestChaos$$' -count=1 -parallel 2 -timeout 12h

bench-control: ## the simulator's table: what each policy reaches on seeds that nothing was tuned on (CONTROL_SEEDS of each scenario)
	$(GO) run ./examples/benchcontrol -seeds $(CONTROL_SEEDS)

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

package: bin/nfpm ## deb and rpm for amd64 and arm64 in bin/packages (VERSION=1.2.3; else from git); the same commit gives the same bytes
	GO=$(GO) tools/package

bin/nfpm: tools/go.mod tools/go.sum
	@echo "building nfpm: a minute or some, once for each version"
	$(GO) build -C tools -trimpath -ldflags '-s -w' -o ../bin/nfpm github.com/goreleaser/nfpm/v2/cmd/nfpm

e2e: build ## real nodes, keystone and page-test; the main job unharmed, beside another tenant, with the agent killed twenty times, and uncontrolled (which must miss), as root
	tools/e2e

keystone: ## Monasca's session against a real Keystone, which it installs (as root; some minutes, on a machine that does little else)
	QOSCTL_E2E=1 $(GO) test ./monasca -run TestRealKeystone -count=1 -timeout 20m

page-test: ## the agent's page in a real Chromium, which it installs below QOSCTL_E2E_CACHE (as root, with npm); SHOTS=DIR keeps pictures
	QOSCTL_PAGE=1 QOSCTL_SHOTS=$(SHOTS) $(GO) test ./agent -run TestThePageInChromium -count=1 -timeout 30m -v

clean: ## remove what was built
	rm -rf bin
