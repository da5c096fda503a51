# Two commands matter: `make run` starts a node, `make test` says whether a
# change can be trusted. Both install what they need (see packaging/setup).

SHELL := /bin/sh
.DEFAULT_GOAL := help

# One set of flags for build and test, or the engine compiles twice; for the same
# reason the binary is built without -trimpath, which a release adds.
# The headers' folder goes through CPATH, which is not part of Go's cache key, so
# that clones in different folders share the compiled engine.
export CGO_CFLAGS := -O3 -march=x86-64-v3
export CGO_CXXFLAGS := -O3 -march=x86-64-v3
export CPATH := $(CURDIR)/build/include:/usr/include/stb

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
ADDRESS ?= localhost:8443
DATA ?= build/data
STARTER := build/packs/starter.pack
PACK ?= $(wildcard $(STARTER))
SEEDS ?= 50

.PHONY: help
help:
	@echo "make run           build, fetch the starter pack, start a node on https://$(ADDRESS)"
	@echo "make run PACK=F    the same with a model pack from a stick"
	@echo "make cluster       three nodes on this machine, see build/cluster/nodes.json; make cluster-stop"
	@echo "make test          everything needed to trust a change"
	@echo "make race          the same under the race detector, wherever that is possible"
	@echo "make build         build/cloister and build/cloister-verify"
	@echo "make starter       build/packs/starter.pack"
	@echo "make bench NAME=N  one benchmark: boot apply store failover snapshot restart mix login engine answer sync install"
	@echo "make chaos SEEDS=N the long crash and power-cut runs, and N seeds of three nodes under faults"
	@echo "make rpm deb       packages, built with the pinned toolchain"
	@echo "make media         one folder with all that goes on the stick; SIGN=KEY signs it"
	@echo "make acceptance    installs it on three machines and does there what an organisation does"
	@echo "make verifiers     cloister-verify for Linux, Windows and macOS"

.PHONY: setup-run setup-test
setup-run setup-test: setup-%:
	@packaging/setup/setup.sh $*

# The engine's module carries no third-party headers; this one comes from another
# module, the rest from the distribution.
build/include/miniaudio/miniaudio.h: go.sum
	@mkdir -p $(@D)
	@go mod download
	@cp -f "$$(go list -m -f '{{.Dir}}' github.com/gen2brain/malgo)/miniaudio.h" $@
	@chmod u+w $@ && touch $@

.PHONY: build
build: setup-run build/include/miniaudio/miniaudio.h
	@packaging/setup/build.sh build/cloister ./cmd/cloister -ldflags '$(LDFLAGS)'
	@CGO_ENABLED=0 packaging/setup/build.sh build/cloister-verify ./cmd/cloister-verify -trimpath -ldflags '$(LDFLAGS)'

.PHONY: verifiers
verifiers:
	@for t in linux/amd64 windows/amd64 darwin/arm64 darwin/amd64; do \
	  os=$${t%/*} arch=$${t#*/} ext=; [ $$os = windows ] && ext=.exe; \
	  CGO_ENABLED=0 GOOS=$$os GOARCH=$$arch go build -trimpath -ldflags '$(LDFLAGS)' \
	    -o build/verifiers/cloister-verify-$$os-$$arch$$ext ./cmd/cloister-verify || exit 1; \
	done; ls build/verifiers

.PHONY: starter
starter: setup-run
	@[ -s $(STARTER) ] || go run ./packaging/starter -o $(STARTER)

.PHONY: run
run: build
	@[ -n "$(PACK)" ] || $(MAKE) --no-print-directory starter || \
	  echo "No starter pack could be fetched: the node runs with text search alone. Import a model later with: cloister model import FILE"
	@pack="$(PACK)"; [ -n "$$pack" ] || { [ -s $(STARTER) ] && pack=$(STARTER); }; \
	  exec build/cloister serve --data $(DATA) --listen $(ADDRESS) $${pack:+--pack "$$pack"}

# Three local nodes. Saying it again starts those that do not run.
.PHONY: cluster cluster-stop
cluster: build
	@go run ./packaging/cluster -pack "$(PACK)" up

cluster-stop:
	@go run ./packaging/cluster down

.PHONY: generate
generate:
	@go tool templ generate -path ui

.PHONY: check
check: build/include/miniaudio/miniaudio.h
	@bad=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$bad" ] || { echo "gofmt: $$bad"; exit 1; }
	@go tool templ generate -path ui >/dev/null 2>&1 && git diff --exit-code --stat -- 'ui/*_templ.go' || \
	  { echo "the generated pages differ from their templates: run make generate"; exit 1; }
	@go vet ./...
	@go tool staticcheck ./...

.PHONY: test
test: setup-test build build/nfpm
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory starter || [ "$$CI" != true ]
	@test/run.sh

# All of it under the race detector, which takes two to three times as long.
.PHONY: race
race: setup-test build build/nfpm
	@$(MAKE) --no-print-directory starter
	@test/run.sh race

.PHONY: bench
bench: build
	@[ -n "$(NAME)" ] || { echo "say which: make bench NAME=boot|apply|store|failover|snapshot|restart|mix|login|engine|answer|sync|install"; exit 2; }
	@go run ./test/bench -name "$(NAME)" -out build/bench

.PHONY: chaos
chaos: build
	@CLOISTER_KILLS=200 go test -count=1 -timeout 60m -run 'Kill|Crash' -v ./store/...
	@CLOISTER_CUTS=50 go test -count=1 -timeout 60m -run 'PowerCut' -v ./store/...
	@CLOISTER_CHAOS_SEEDS=$(SEEDS) go test -count=1 -timeout 0 -run TestSeeds -v ./test/chaos

# The packages are made of the release binary; RELEASE is their version.
RELEASE ?= 0.1.0
RELEASED := build/release

.PHONY: release
release: setup-test
	@packaging/release/build.sh $(RELEASED) $(RELEASE)

.PHONY: rpm deb
rpm deb: release build/nfpm
	@packaging/pack.sh $(RELEASED) $(RELEASE) $(RELEASED)/packages $@

build/nfpm: packaging/nfpm/go.mod
	@go build -modfile packaging/nfpm/go.mod -o $@ github.com/goreleaser/nfpm/v2/cmd/nfpm && touch $@

# What goes on the stick. SIGN names an OpenPGP secret key, without which there are
# checksums alone.
.PHONY: media
media: release build/nfpm starter verifiers
	@rm -rf $(RELEASED)/packages && packaging/pack.sh $(RELEASED) $(RELEASE) $(RELEASED)/packages
	@packaging/media.sh build/media $(RELEASED)/packages $(STARTER) build/verifiers

# The whole use, from the stick: what is released is what is tried.
.PHONY: acceptance
acceptance: media
	@CLOISTER_MEDIUM=build/media go test -count=1 -timeout 30m -v ./test/package ./test/acceptance

.PHONY: clean
clean:
	rm -rf build/cloister build/cloister-verify build/verifiers build/bench build/screenshots
