# Bare "make" prints this list: each line that begins with "#:" is one target.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO      ?= go
# The product is built without C. With cgo, which -race needs, pebble would compress with a library in C, whose
# build takes minutes; by this tag it uses the same Go code everywhere.
export GOFLAGS := -tags=pebblegozstd $(GOFLAGS)
# Under -race a program needs several times its memory; two of them at a time are to fit into 8 GiB.
unit model race mount cover: export GOMEMLIMIT ?= 3GiB
# As the product is built, and the command that tests in bench build: so that all is compiled once.
lint model: export CGO_ENABLED := 0
TOOL    := $(GO) tool -modfile=tools/go.mod
FUZZTIME ?= 10s
COUNT   ?= 10
# The core: what runs in a browser, too.
CORE    = . $$($(GO) list ./chunkstore/... ./vfs/... | grep -v /kv/pebblekv)
# What has rclone's thousand packages below it, which take minutes for each way in which they are built: its tests run
# without -race, and it is vetted for this system only. LIGHT is all else; with the tag noproviders, which fuzzing takes,
# for it builds all anew, the command is, too.
BELOW   = $(GO) list -f '{{.ImportPath}} {{join .Deps " "}} {{join .TestImports " "}} {{join .XTestImports " "}} .' ./...
HEAVY   = $$($(BELOW) | grep -e '/sync/remote/provider ' -e '/sync/remote/kinds ' | cut -d ' ' -f 1)
LIGHT   = $$($(BELOW) | grep -v -e '/sync/remote/provider ' -e '/sync/remote/kinds ' | cut -d ' ' -f 1)
# What computes much in one goroutine, or moves many megabytes, and would take ten times as long with -race, which finds nothing in it.
ALONE_PACKAGES = ./vfs/manifest ./chunkstore/cdc ./chunkstore/seal ./chunkstore/pack ./chunkstore/keys ./sync/merge ./sync/trust/wot ./sync/trust/pgp
ALONE_TESTS    = DamageIsFoundAndHarmless|NeverForgets|EachFlippedBit|TestShape_|TestRot_|Tells?Nothing|TestFeed_|TestFilling_|AtEveryChange|WhatABucketOnceShowed|FailedPacksAreKept|TestSecrets_|TestAttack_|TestReplay_|TestFS_Death|TestFS_PowerCut|TestCache_|HoldsWhatIsRead|TestPin_KeepsPacksHere|RangesOfRemotesLie|WhatATreeOpenedAnewShows|GoesByWhatItCosts|TestMount_AsAPlainUser|TestSuite_ExercisedFile|TestSuite_WriteThrough|TestFS_IsAnFS$$

# The tests of the command that start it hundreds of times and need no cloud: half of a start is what the libraries of clouds do first, so these have a program without them.
SMALL_TESTS    = ^TestScripts$$|^TestAPI_|^TestDoors_|^TestServe_|^TestPeers_|^TestTrust_|^TestReach_|^TestService_|^TestChecks_

#: make            this list
.PHONY: help
help:
	@sed -n 's/^#: //p' Makefile

#: make run        builds sheaf, and creates and mounts a drive of its own (SHEAF_HOME, default ~/.sheaf-run)
.PHONY: run
run: build
	scripts/deps mount
	SHEAF_HOME="$${SHEAF_HOME:-$$HOME/.sheaf-run}" exec ./bin/sheaf up

#: make build      ./bin/sheaf
.PHONY: build
build:
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/sheaf ./cmd/sheaf

#: make deps       installs what tests and mounts need, if it is missing
.PHONY: deps
deps:
	scripts/deps webdav cgofuse

#: make test       all that CI needs: floors, all tests with -race and mounts, the other systems, short fuzzing
.PHONY: test
test: deps floors
	$(MAKE) cross CROSS=windows/amd64
	$(MAKE) fuzz FUZZTIME=10000x FUZZSKIP='FuzzSealedFS|FuzzTime|FuzzPlan|FuzzNames|FuzzCard|FuzzCompute'
	$(MAKE) model
	$(MAKE) race
	$(MAKE) cgofuse

#: make unit       go test ./... -short: quick, and without root
.PHONY: unit
unit:
	$(GO) test -short ./...

# Much of what has servers and peers waits for these, so three packages at a time (-p 3) keep two processors busy.
#: make model      what -race is too slow for: 10^5 schedules of the join, memory, damage, kills, programs on a mount, many devices, remotes
.PHONY: model
model:
	$(GO) test -timeout 20m $(ALONE_PACKAGES) ./sync/pair ./chunkstore/kv/pebblekv ./chunkstore/blob/disk
	$(GO) test -timeout 20m -short -run '$(ALONE_TESTS)' . ./chunkstore ./chunkstore/blob/tier ./chunkstore/index ./chunkstore/refs ./vfs/live ./vfs/live/journal ./vfs/vfstest ./mount/fuse
	$(GO) test -p 3 -timeout 20m -short -skip '/(s3|weed|ftp)$$|$(SMALL_TESTS)' $(HEAVY) ./bench/remotes ./bench/devices
	GOFLAGS=-tags=pebblegozstd,noproviders $(GO) test -p 3 -timeout 20m -short -skip 'TestServers_' ./cmd/sheaf $$($(GO) list ./bench/... | grep -v -e /bench/remotes -e /bench/devices)
	$(GO) test -timeout 20m -run 'GoesOn|SurvivesAKill|SurvivesACut' ./internal/powerloss

# What takes longest begins first: else one processor waits for it in the end.
#: make race       all tests, with -race, in their short form
.PHONY: race
race: export GOFLAGS := -tags=pebblegozstd,noproviders
race:
	$(GO) test -race -short -timeout 20m -skip '$(ALONE_TESTS)|OfAFullDiskGoesOn|SurvivesPowerCuts|SurvivesACut' \
		./vfs/live ./mount/fuse ./vfs/live/journal ./chunkstore/blob/tier \
		$$(echo $(LIGHT) | tr ' ' '\n' | grep -v -e /bench/ -e '/cmd/sheaf$$' $(ALONE_PACKAGES:./%=-e '/%$$'))

#: make mount      the tests that mount; needs /dev/fuse
.PHONY: mount
mount:
	$(GO) test -timeout 20m ./mount/... ./bench/proof/... ./bench/posix

#: make cgofuse    mount/winfsp, built with libfuse and C: the same adapter as on Windows, on real mounts; needs /dev/fuse
.PHONY: cgofuse
cgofuse: export GOFLAGS := -tags=pebblegozstd,noproviders,cgofuse
cgofuse: export CGO_ENABLED := 1
cgofuse:
	scripts/deps cgofuse
	$(GO) vet ./mount/winfsp
	$(GO) test -count=1 -timeout 20m ./mount/winfsp

#: make sim        SHEAF_SCHEDULES schedules (100000) of many devices in virtual time, from the seed SHEAF_SEED on, each eighth twice
.PHONY: sim mutants
sim: export SHEAF_TWICE ?= 8
sim mutants: export CGO_ENABLED := 0
sim mutants: export GOFLAGS := -tags=pebblegozstd,noproviders
sim:
	scripts/sim

#: make plans      SHEAF_SCHEDULES schedules (1000000) of what a rule between two places plans, and a tenth of that carried out with faults and kills
.PHONY: plans
plans: export CGO_ENABLED := 0
plans: export GOFLAGS := -tags=pebblegozstd,noproviders
plans: export SHEAF_SCHEDULES ?= 1000000
plans:
	$(GO) test -count=1 -timeout 12h -v -run AllSchedules ./sync/merge
	SHEAF_SCHEDULES=$$(($$SHEAF_SCHEDULES / 10)) $(GO) test -count=1 -timeout 12h -v -run AllSchedules ./sync/pair

#: make mutants    rules of the drive are left out, one at a time, and each has to be found within SHEAF_MUTANTS schedules (2000), those of a rule's plans within 100000 or by a case
mutants: export SHEAF_MUTANTS ?= 2000
mutants:
	$(GO) test -count=1 -timeout 12h -v -run Mutants ./bench/sim
	SHEAF_MUTANTS=100000 $(GO) test -count=1 -timeout 12h -v -run Mutants ./sync/merge

#: make churn      an hour of changes over 100,000 files on a mount, SHEAF_CHURN (60m): nothing grows. Without C, as the product is built
.PHONY: churn
churn: export CGO_ENABLED := 0
churn: export GOFLAGS := -tags=pebblegozstd,noproviders
churn: export SHEAF_CHURN ?= 60m
churn:
	$(GO) test -count=1 -timeout 12h -v -run NeedsNoMore ./bench/churn

#: make floors     docs/ARCHITECTURE.md against the code
.PHONY: floors
floors:
	$(GO) test ./internal/arch

#: make remotes    all tests of remotes, on real servers, S3 and SMB among them, with drives of SHEAF_REMOTE_FILES files (10000)
.PHONY: remotes
remotes: export CGO_ENABLED := 0
remotes: export GOFLAGS := -tags=pebblegozstd,smb
remotes: export SHEAF_REMOTE_FILES ?= 10000
remotes:
	scripts/deps remotes smb
	$(GO) test -count=1 -timeout 2h -v ./sync/remote/...
	$(GO) test -count=1 -timeout 2h -v -run Servers ./cmd/sheaf

#: make proofs     what one drive in many places promises, in full: 10 GB and 100,000 files on demand, ten minutes offline, 500 MB queued, 25 bad packs, storms (root, 40 GB, an hour)
.PHONY: proofs
proofs: export CGO_ENABLED := 0
proofs: export SHEAF_LONG := 1
proofs:
	scripts/deps remotes
	$(GO) test -count=1 -timeout 4h -v -run 'Servers_(Content|Offline|Umount|Damaged|AStorm|AService)' ./cmd/sheaf

#: make webdav     the tests of the WebDAV door in full: 20,000 operations through davfs2, 10,000 files, many clients, kills, pages in Chromium
.PHONY: webdav
webdav: export CGO_ENABLED := 0
webdav: export GOFLAGS := -tags=pebblegozstd,noproviders
webdav:
	scripts/deps webdav browser
	SHEAF_LONG=1 $(GO) test -count=1 -timeout 2h -v ./webdav/...
	SHEAF_LONG=1 $(GO) test -count=1 -timeout 4h -v -run 'Serve_|Scripts/serve' ./cmd/sheaf

#: make api        the API in full: reflection and files by grpcurl, ranges by curl, 1 GiB by gRPC, 10,000 events of another device
.PHONY: api
api: export CGO_ENABLED := 0
api: export GOFLAGS := -tags=pebblegozstd,noproviders
api:
	scripts/deps api
	SHEAF_LONG=1 $(GO) test -count=1 -timeout 1h ./api/...
	SHEAF_LONG=1 $(GO) test -count=1 -timeout 2h -v -run 'API_|APICoverage|Scripts/(api|token)' ./cmd/sheaf

#: make wine       sheaf for Windows, built here, under Wine: a drive, WebDAV, a second process over the pipe (root)
.PHONY: wine
wine:
	scripts/deps wine webdav
	scripts/wine

#: make lint       gofumpt, go vet, golangci-lint (the first run builds it, which takes minutes)
.PHONY: lint
lint:
	@files="$$(git ls-files '*.go' | grep -v -e '\.pb\.go$$' -e '\.connect\.go$$' | xargs $(TOOL) gofumpt -l)"; \
	if [ -n "$$files" ]; then echo "gofumpt would change:"; echo "$$files"; exit 1; fi
	$(GO) vet ./...
	$(TOOL) golangci-lint run ./...

#: make cross      builds the core for the browser, and vets Windows, macOS, Android and Linux on arm64 (without rclone's backends); CI: the browser and Windows
CROSS ?= windows/amd64 darwin/arm64 android/arm64 linux/arm64
.PHONY: cross
cross: export GOFLAGS := -tags=pebblegozstd,noproviders
cross:
	GOOS=js GOARCH=wasm $(GO) build $(CORE)
	export CGO_ENABLED=0; for to in $(CROSS); do \
		export GOOS="$${to%/*}" GOARCH="$${to#*/}"; echo "vet for $$to"; $(GO) vet $(LIGHT); \
	done

#: make peers      devices that reach each other directly: two namespaces (root), all of the suites, a million malformed frames
.PHONY: peers
peers: export GOFLAGS := -tags=pebblegozstd,noproviders
peers:
	SHEAF_LONG=1 $(GO) test -count=1 -timeout 1h -v -run 'Peers_|Trust_|Reach_|Scripts/(peers|folder_peers|key)' ./cmd/sheaf
	$(GO) test -count=1 -timeout 1h ./sync/remote/peer ./sync/invite ./chunkstore/blob/shelf ./api/peering
	$(GO) test -run FuzzFrame -fuzz FuzzFrame -fuzztime 1000000x ./sync/remote/peer

#: make fuzz       every fuzz target but FUZZSKIP for FUZZTIME (10s; 100000x for that many inputs); CI leaves out what takes longest to build, or decodes nothing and is slow
.PHONY: fuzz
fuzz: export GOFLAGS := -tags=pebblegozstd,noproviders
fuzz:
	scripts/fuzz "$(FUZZTIME)" '$(FUZZSKIP)'

#: make posix      every suite of docs/POSIX.md on a mounted drive; PJDFSTEST=DIR FSX=PATH XFSTESTS=DIR LTP=DIR name built copies
.PHONY: posix
posix:
	scripts/deps posix
	SHEAF_LONG=1 $(GO) test -count=1 -timeout 3h -v ./mount/...
	SHEAF_FSX_OPS=100000 SHEAF_KILL_ROUNDS=100 $(GO) test -count=1 -timeout 3h -v ./bench/proof
	SHEAF_POSIX=1 SHEAF_FSX_OPS="$${SHEAF_FSX_OPS:-1000000}" $(GO) test -count=1 -timeout 24h -v ./bench/posix

#: make release    into dist/: archives, deb, rpm and apk, SBOMs, sums, and with URL the formula of Homebrew and winget's manifests, for TARGETS (linux, darwin, windows on two processors each, and android/arm64)
#: make release-check  the same twice, from two clones at two places: every byte has to be the same; the packages are installed and removed again
.PHONY: release release-check
release release-check: export GOFLAGS :=
release:
	$(GO) run -C tools/release . -dir "$(CURDIR)" -out "$(CURDIR)/dist" $(if $(TARGETS),-targets "$(TARGETS)") $(if $(RELEASE_TAGS),-tags "$(RELEASE_TAGS)") $(if $(URL),-url "$(URL)")
release-check:
	scripts/deps release
	GO="$(GO)" scripts/release-check

#: make soak       the long forms of the tests: many schedules, kills and bit flips (hours)
.PHONY: soak
soak:
	SHEAF_LONG=1 $(GO) test -count=1 -timeout 12h ./...

#: make bench      the mount against gocryptfs and others, ROUNDS times (5), sizes divided by SCALE (1): bench/README.md
.PHONY: bench
bench: build
	scripts/deps bench
	$(GO) build -trimpath -o bin/mountbench ./bench/mountbench
	bin/mountbench -rounds "$${ROUNDS:-5}" -scale "$${SCALE:-1}" -json bench/results/mount.jsonl

#: make databench  copies in and out against restic, kopia and borg, ROUNDS times, sizes divided by SCALE
.PHONY: databench
databench: build
	scripts/deps databench
	$(GO) build -trimpath -o bin/databench ./bench/databench
	bin/databench -rounds "$${ROUNDS:-5}" -scale "$${SCALE:-1}" -json bench/results/data.jsonl

#: make remotebench requests, bytes and time to a server and back, against rclone through crypt and restic, also with 40 ms to the server
.PHONY: remotebench
remotebench:
	scripts/deps remotes databench
	SHEAF_REMOTE_BENCH=1 $(GO) test -count=1 -timeout 4h -v ./bench/remotes

#: make davbench   WebDAV against rclone's server and Apache's, and the API against HTTP alone: SHEAF_DAV_MB (1024), SHEAF_DAV_PUTS, SHEAF_DAV_ENTRIES, SHEAF_DAV_ROUNDS (3)
.PHONY: davbench
davbench:
	scripts/deps
	SHEAF_DAV_BENCH=1 $(GO) test -count=1 -timeout 4h -v ./bench/davbench

#: make peerbench  two devices that exchange directly against Syncthing, rsync over ssh and croc (if it is in PATH, or CROC names it), ROUNDS times, sizes divided by SCALE (root)
.PHONY: peerbench
peerbench: build
	scripts/deps peerbench
	$(GO) build -trimpath -o bin/peerbench ./bench/peerbench
	bin/peerbench -rounds "$${ROUNDS:-3}" -scale "$${SCALE:-1}" -json bench/results/peers.jsonl

#: make rulebench  a rule between two plain places against rclone sync, rclone bisync and unison, ROUNDS times, files divided by SCALE (root)
.PHONY: rulebench
rulebench: build
	scripts/deps rulebench
	$(GO) build -trimpath -o bin/rulebench ./bench/rulebench
	bin/rulebench -rounds "$${ROUNDS:-3}" -scale "$${SCALE:-1}" -json bench/results/rules.jsonl

#: make scalebench drives of 10^4, 10^5 and 10^6 files, divided by SCALE
.PHONY: scalebench
scalebench: build
	$(GO) build -trimpath -o bin/scalebench ./bench/scalebench
	bin/scalebench -scale "$${SCALE:-1}" -json bench/results/scale.jsonl

#: make microbench go test -bench, COUNT=10 times, to bench/new.txt
.PHONY: microbench
microbench:
	$(GO) test -run '^$$' -bench . -benchmem -count $(COUNT) -timeout 4h ./... | tee bench/new.txt

#: make benchcmp   bench/baseline.txt against bench/new.txt
.PHONY: benchcmp
benchcmp:
	$(TOOL) benchstat bench/baseline.txt bench/new.txt

#: make cover      coverage by room
.PHONY: cover
cover:
	$(GO) test -short -coverprofile cover.out -coverpkg ./... ./...
	@$(GO) tool cover -func cover.out | awk '/^total/ {next} {split($$1, p, "/"); room = p[4] == "" || p[4] ~ /:/ ? "sheaf" : p[4]; sub("%", "", $$NF); n[room]++; s[room] += $$NF} END {for (r in n) printf "%-12s %5.1f %% of its functions, on average\n", r, s[r] / n[r]}' | sort

#: make proto      writes the Go code of api/proto anew
.PHONY: proto
proto:
	cd api/proto && $(GO) tool -modfile=../../tools/go.mod buf generate

#: make tools      builds the tools and sets the git hooks
.PHONY: tools
tools:
	cd tools && $(GO) build -o /dev/null tool
	git config core.hooksPath .githooks

#: make ci         lint, then test
.PHONY: ci
ci: lint test
