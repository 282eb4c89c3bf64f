# SPDX-License-Identifier: Apache-2.0

.DEFAULT_GOAL := help

# Each leg runs the tests under one tool: scripts/deep.sh says what each tool finds.
LEGS = race asan cgocheck checkfinalizers gc checkptr forcegc valgrind asan-libssl

.PHONY: help setup demo test test-plain test-slow test-deep test-static test-prefix test-spacemonkey test-matrix test-mutants versions fuzz fuzz-coverage rename docker-base docker-test lint fmt bench bench-programs bench-compare test-bench $(LEGS:%=test-%)

# Warnings are errors here, and never in a #cgo line: users of the module have other compilers.
# -Wno-unused-parameter: Go's own runtime/cgo has such parameters, and the same flags build it.
WARNINGS  = -Wall -Wextra -Werror -Wno-unused-parameter
FLAGS     = CGO_CFLAGS="$$('$(CURDIR)/scripts/cflags.sh' $(WARNINGS))"
C_FILES   = $(shell find . '(' -name .git -o -name .matrix ')' -prune -o -name '*.[ch]' -print)
# Without the hidden folders: .matrix holds whole Go installations.
GO_DIRS   = *.go */
LICENCE   = // SPDX-License-Identifier: Apache-2.0
TESTFLAGS =
ARGS      =
# Printed before a command that prints nothing for a long time.
COMPILING = echo 'compiling: a minute or two the first time, without output'

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile

setup: ## check for Go, gcc, pkg-config and libssl; install what is missing if possible
	@scripts/setup.sh

demo: setup ## run the demonstration; ARGS='...' are its flags
	@$(COMPILING)
	@$(FLAGS) go run ./demo $(ARGS)

test: setup ## run go vet, then all tests, plain and with the race detector at the same time; TESTFLAGS='-run X'
	@$(COMPILING)
	@echo '== go vet ./...'; $(FLAGS) go vet ./...
	@$(FLAGS) scripts/test.sh $(TESTFLAGS)

test-plain: setup ## run all tests once
	@$(COMPILING)
	@$(FLAGS) scripts/gotest.sh $(TESTFLAGS) ./...

test-slow: setup ## run all tests once, and list the twenty slowest
	@$(COMPILING)
	@SLOW=20 $(FLAGS) scripts/gotest.sh $(TESTFLAGS) ./...

$(LEGS:%=test-%): test-%: setup
	@$(FLAGS) scripts/deep.sh $* -- $(TESTFLAGS)

test-deep: setup ## run all tests under each memory tool; LEG='race asan', or test-race, test-asan ..., for some tools
	@$(FLAGS) scripts/deep.sh $(or $(LEG),$(LEGS)) -- $(TESTFLAGS)

test-static: export STATIC = 1
test-static: setup ## run all tests, linked statically with libssl
	@$(FLAGS) scripts/gotest.sh -tags openssl_static $(TESTFLAGS) ./...

test-prefix: setup ## run all tests with OpenSSL 1.1.1 in a separate folder, by PKG_CONFIG_PATH, linked in both ways
	scripts/prefix.sh $(MAKE) test-race test-static

# Without WARNINGS: their package has some.
test-spacemonkey: setup ## test the adapter for github.com/spacemonkeygo/openssl, plain and with the race detector, and run its example
	@$(COMPILING)
	@export CGO_CFLAGS="$$(scripts/cflags.sh '-I$(CURDIR)/spacemonkey/compat')"; status=0; \
	go vet -tags spacemonkey ./spacemonkey/... || status=1; \
	scripts/gotest.sh -tags spacemonkey $(TESTFLAGS) ./spacemonkey/... || status=1; \
	scripts/gotest.sh -race -tags spacemonkey $(TESTFLAGS) ./spacemonkey/... || status=1; \
	go run -tags spacemonkey ./spacemonkey/example || status=1; \
	exit $$status

test-matrix: ## run make test with OpenSSL 1.1.1 to 4.0, in root file systems of Debian's suites; VERSION=3.5, TESTFLAGS
	scripts/matrix.sh make test TESTFLAGS='$(TESTFLAGS)'

versions: ## rewrite docs/versions.md from what each version of OpenSSL does in the scripts of conformance/
	rm -rf .matrix/transcripts
	scripts/matrix.sh make test-plain TESTFLAGS='-run TestScripts'
	SSLCTX_TRANSCRIPTS='$(CURDIR)/.matrix/transcripts' $(FLAGS) go test -count=1 -run TestVersions ./conformance -update

test-mutants: setup ## build the faults of tests/mutants into a copy, and check that a test sees each (20 minutes beside other work); ARGS='-only Conn.Close -v'
	@$(COMPILING)
	@go run ./tests/mutants $(ARGS)

# Without WARNINGS: the go command builds a target with flags of its own.
TIME = 30m
fuzz: setup ## run a fuzz target: FUZZ=FuzzClientHello TIME=30m
	scripts/fuzz.sh run $(FUZZ) $(TIME)

fuzz-coverage: setup ## print what the seeds of the fuzz targets reach, function by function; FUZZ=FuzzClientHello for one target
	scripts/fuzz.sh coverage $(FUZZ)

rename: ## give the module a path, in every file: MODULE=host/owner/name
	@scripts/rename.sh '$(MODULE)'

docker-base: ## rebuild the Dockerfile's base images from Debian's packages, if no registry is reachable
	scripts/docker.sh base

docker-test: ## build and test the Dockerfile's images, on the images of docker-base; BASE, RUNTIME, TESTFLAGS
	scripts/docker.sh test

lint: setup ## check licence lines, run gofmt, go vet, staticcheck, actionlint, clang-format, go mod tidy, and cppcheck if it is installed
	@scripts/setup.sh clang-format >/dev/null
	test -z "$$(gofmt -s -l $(GO_DIRS) | tee /dev/stderr)"
	@echo 'the first line of each source file is its licence'
	@test -z "$$(find . -name '.?*' -prune -o '(' -name '*.go' -o -name '*.[ch]' ')' -exec awk 'FNR == 1 && $$0 != "$(LICENCE)" { print FILENAME }' {} + | tee /dev/stderr)"
	$(FLAGS) go vet ./...
	@# GOWORK=off: the go command refuses -modfile in a workspace.
	GOWORK=off $(FLAGS) go tool -modfile=tools/go.mod staticcheck ./...
	@# The files that other builds leave out. Without WARNINGS, as in test-spacemonkey.
	GOWORK=off CGO_CFLAGS="$$(scripts/cflags.sh '-I$(CURDIR)/spacemonkey/compat')" \
	go tool -modfile=tools/go.mod staticcheck -tags spacemonkey,forcegc ./...
	cd bench && $(FLAGS) go vet . ./side ./ours ./stdlib
	cd bench && GOWORK=off $(FLAGS) go tool -modfile=../tools/go.mod staticcheck . ./side ./ours ./stdlib
	GOWORK=off go tool -modfile=tools/go.mod actionlint
	clang-format --dry-run -Werror $(C_FILES)
	go mod tidy -diff
	cd bench && go mod tidy -diff
	@if command -v cppcheck >/dev/null; then set -x; \
	cppcheck --quiet --error-exitcode=1 --enable=warning,portability --inline-suppr $(C_FILES); fi

fmt: ## format the Go and the C files
	@scripts/setup.sh clang-format >/dev/null
	gofmt -s -w $(GO_DIRS)
	clang-format -i $(C_FILES)

# One program for each side. C has -O2, as libssl has.
BENCH = bench/bin
bench-programs: setup
	@scripts/setup.sh redis-server >/dev/null
	@mkdir -p $(BENCH)
	$(CC) -O2 $(WARNINGS) -o $(BENCH)/c bench/c/*.c internal/cwork/*.c $$(pkg-config --cflags --libs libssl libcrypto) -lpthread
	cd bench && $(FLAGS) go build -o bin/ . ./ours ./stdlib
	@# Without WARNINGS: these two have some.
	cd bench && CGO_CFLAGS="$$('$(CURDIR)/scripts/cflags.sh' '-I$(CURDIR)/spacemonkey/compat')" go build -o bin/ ./spacemonkey
	cd bench && CGO_CFLAGS="$$('$(CURDIR)/scripts/cflags.sh')" go build -o bin/ ./libp2p

bench: bench-programs ## measure the binding beside C, crypto/tls and other packages, in turns; ARGS='-only handshake -rounds 21', -json FILE
	@cd bench && bin/bench $(ARGS)

test-bench: bench-programs ## run the tests of bench, and each row for a moment, which is no measurement
	DIR=bench $(FLAGS) scripts/gotest.sh .
	@cd bench && bin/bench -rounds 1 -round 3ms -noise 9 >/dev/null

bench-compare: bench-programs ## compare the binding with its revision BASE, in turns, by benchstat; ARGS
	@scripts/bench-compare.sh $(BASE) -- $(ARGS)
