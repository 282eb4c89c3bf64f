#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0

# Builds and tests the images of the Dockerfile, with a registry or without one.
#
#	scripts/docker.sh base    rebuilds the base images from Debian's packages and this machine's Go
#	scripts/docker.sh test    builds the test stage and the demo, tests the demo, and prints a table
#
# TESTFLAGS are for go test. BASE and RUNTIME name other base images, for example
# golang:1.26-bookworm and debian:bookworm-slim. The images of `base` contain all packages and
# modules, so builds on them need no network.
#
# The script uses the Docker daemon that answers. If none does, root starts a daemon for the time of
# the script; its images stay in CACHE (.matrix). On Debian and Ubuntu root also installs what is
# missing, docker.io or mmdebstrap. The mirrors are those of this machine's own apt;
# DEBIAN_MIRROR and DEBIAN_SECURITY_MIRROR name others.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/mirror.sh

SUITE=bookworm
CACHE=${CACHE:-$PWD/.matrix}
local_base=sslctx-base:$SUITE
local_runtime=sslctx-runtime:$SUITE
base=${BASE:-$local_base}
runtime=${RUNTIME:-$local_runtime}

work=$(mktemp -d) # short: the name of a socket has at most 107 bytes
label=sslctx-docker-test=$$
daemon=
job=

fail() {
	printf 'docker: %s\n' "$@" >&2
	exit 1
}

clean_up() {
	set +e
	[ -z "$job" ] || kill -- "-$job"
	if [ -n "${connected:-}" ]; then
		docker ps -aq --filter "label=$label" | xargs -r docker rm -f >/dev/null
	fi
	stop_daemon
	[ ! -e "$work/policy" ] || rm -f /usr/sbin/policy-rc.d
	rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- the daemon

answers() { docker version >/dev/null 2>&1; }

connect() {
	if ! answers; then
		[ "$(id -u)" -eq 0 ] || fail 'no Docker daemon answers, and only root can start one: sudo make docker-test'
		command -v dockerd >/dev/null || install_docker
		start_daemon
	fi
	connected=yes
	# A client without the buildx plugin has only the old builder, and would warn or fail.
	docker buildx version >/dev/null 2>&1 || export DOCKER_BUILDKIT=0
}

install() {
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null
}

# The package would start a daemon, with rules for the firewall. A policy prevents that.
install_docker() {
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		touch "$work/policy"
		printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
		chmod +x /usr/sbin/policy-rc.d
	fi
	install docker.io
}

# start_daemon starts a daemon that does not change the machine's network. The daemon inherits the
# lock, and holds it as long as it runs: if it outlives this script, the next script reports that.
start_daemon() {
	local data=$CACHE/docker
	mkdir -p "$data"
	exec 9>"$CACHE/docker.lock"
	flock -n 9 || fail "another Docker daemon works in $data"
	# The daemon gets a separate session. An interrupt from the terminal then reaches this script
	# alone, which stops the daemon.
	setsid dockerd --data-root "$data" --exec-root "$work/exec" --pidfile "$work/pid" -H "unix://$work/sock" \
		--iptables=false --ip6tables=false --ip-forward=false --bridge=none \
		>"$CACHE/docker.log" 2>&1 </dev/null &
	daemon=$!
	export DOCKER_HOST=unix://$work/sock
	for _ in {1..300}; do
		answers && return
		kill -0 "$daemon" 2>/dev/null || break
		sleep 0.1
	done
	tail -n 20 "$CACHE/docker.log" >&2
	fail "the Docker daemon did not start"
}

# stop_daemon stops the daemon by its process ID, and unmounts what it leaves: the name space of
# containers without network.
stop_daemon() {
	[ -n "$daemon" ] || return 0
	docker image prune -f >/dev/null
	kill "$daemon"
	if ! timeout 60 tail --pid="$daemon" -f /dev/null; then
		kill -KILL "$daemon" "$(cat "$work/exec/containerd/containerd.pid")"
	fi
	wait "$daemon"
	awk -v a="$work/" -v b="$CACHE/docker/" 'index($2, a) == 1 || index($2, b) == 1 { print $2 }' /proc/mounts |
		sort -r | xargs -r -n 1 umount
	daemon=
}

# --- the base images

# import_debian makes an image of Debian's packages, with apt. The arguments are the name of the
# image, one argument for docker import, and the arguments of mmdebstrap.
import_debian() {
	local name=$1 change=$2 image
	shift 2
	# Check-Valid-Until: a mirror may be behind. Signatures are verified.
	image=$(mmdebstrap --quiet --variant=apt "$@" \
		--aptopt='Acquire::Check-Valid-Until "false"' --aptopt='APT::Install-Recommends "false"' \
		"$SUITE" - "deb $archive $SUITE main" "deb $security $SUITE-security main" |
		docker import --change "$change" -)
	docker tag "$image" "$name" # not reached after a broken pipe
	echo "$name: $(size_of "$name")"
}

size_of() { docker image inspect --format '{{.Size}}' "$1" | awk '{ printf "%.1f MB\n", $1 / 1e6 }'; }

# ingredients is a hash of what the images contain, without Debian's packages.
ingredients() { { cat go.mod go.sum scripts/docker.sh && go version; } | sha256sum | cut -c1-16; }

# make_bases makes both images. The packages are those of the Dockerfile: if one is missing, the
# build without network fails.
make_bases() {
	if ! command -v mmdebstrap >/dev/null; then
		[ "$(id -u)" -eq 0 ] || fail 'mmdebstrap is missing'
		install mmdebstrap
	fi
	archive=${DEBIAN_MIRROR:-$(mirror '^(bookworm|trixie|bullseye|sid)$')}
	security=${DEBIAN_SECURITY_MIRROR:-$(mirror '-security$')}
	if [ -z "$archive" ] || [ -z "$security" ]; then
		fail 'no mirrors of Debian are known: set DEBIAN_MIRROR and DEBIAN_SECURITY_MIRROR'
	fi

	# The modules come from this machine's cache if it has them. Without -modcacherw rm could not
	# remove them.
	GOMODCACHE=$work/modules GOFLAGS=-modcacherw GOPROXY="file://$(go env GOMODCACHE)/cache/download,$(go env GOPROXY)" \
		go mod download
	GOROOT_DIR=$(go env GOROOT)
	MODULES=$work/modules/cache/download
	export GOROOT_DIR MODULES

	import_debian "$local_runtime" 'LABEL sslctx=runtime' --include=openssl
	# shellcheck disable=SC2016 # the shells that run the hooks expand their variables
	import_debian "$local_base" "LABEL sslctx=$(ingredients)" \
		--include=curl,gcc,libc6-dev,libssl-dev,make,openssl,pkg-config \
		--customize-hook='mkdir -p "$1/usr/local/go" "$1/go/pkg/mod/cache/download"' \
		--customize-hook='cp -a "$GOROOT_DIR/." "$1/usr/local/go"' \
		--customize-hook='echo GOPATH=/go >>"$1/usr/local/go/go.env"' \
		--customize-hook='cp -a "$MODULES/." "$1/go/pkg/mod/cache/download"' \
		--customize-hook='ln -s ../go/bin/go ../go/bin/gofmt "$1/usr/local/bin"'
}

# need_bases makes the images if they are missing, or were made from another Go, other modules or
# another script.
need_bases() {
	local have
	have=$(docker image inspect --format '{{.Config.Labels.sslctx}}' "$local_base" 2>/dev/null || true)
	if [ "$have" != "$(ingredients)" ] || ! docker image inspect "$local_runtime" >/dev/null 2>&1; then
		make_bases
	fi
	echo "$local_base $(size_of "$local_base"), $local_runtime $(size_of "$local_runtime")"
}

# --- the test. The last line of each step goes into the table.

build() {
	local network=host
	[ "$base $runtime" != "$local_base $local_runtime" ] || network=none
	docker build --network "$network" --build-arg "BASE=$base" --build-arg "RUNTIME=$runtime" \
		--build-arg "TESTFLAGS=${TESTFLAGS:-}" "$@" .
}

build_test() {
	build --target test --tag sslctx-test | tee "$work/build.log"
	grep -oE '[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped' "$work/build.log" | paste -sd';' | sed 's/;/; /g' |
		grep . || echo 'passed in an earlier build, and nothing has changed'
}

build_demo() {
	build --target demo --tag sslctx-demo
	size_of sslctx-demo
}

# run starts a container that has no network but loopback, and no rights.
run() {
	docker run --label "$label" --read-only --cap-drop ALL --security-opt no-new-privileges "$@"
}

# serve starts a server, and prints its container. Docker checks its health every second.
serve() {
	run --detach --network none --health-interval 1s --health-retries 2 sslctx-demo -serve "$1"
}

health_of() { docker container inspect --format '{{.State.Health.Status}}' "$1"; }

# becomes waits until a container has a state of health.
becomes() {
	local container=$1 want=$2 start=$SECONDS health=
	until [ "$health" = "$want" ]; do
		health=$(health_of "$container")
		if ((SECONDS - start > 60)); then
			docker logs "$container"
			docker container inspect --format '{{json .State}}' "$container"
			echo "$health, not $want"
			return 1
		fi
		sleep 0.2
	done
	echo "$want after $((SECONDS - start)) s"
}

scenario() { run --rm --network none sslctx-demo; }

healthy() { becomes "$server" healthy; }

# user prints the user ID of the process, from the kernel.
user() {
	local uid
	uid=$(docker top "$server" -eo pid,uid,args | awk '/-serve/ { print $2 }')
	echo "uid $uid"
	[ "$uid" -gt 0 ]
}

# other_container checks the server from another container, in the network of the server.
other_container() { run --rm --network "container:$server" sslctx-demo -check 127.0.0.1:8443; }

# hang stops the process of a server for a while. The kernel still accepts its connections.
hang() {
	docker kill --signal STOP "$server"
	hung=$(becomes "$server" unhealthy)
	docker container inspect --format '{{range .State.Health.Log}}{{.ExitCode}} {{.Output}}{{end}}' "$server"
	docker kill --signal CONT "$server"
	back=$(becomes "$server" healthy)
	echo "$hung; continued, $back"
}

# other_port starts a server on another port than the health check expects.
other_port() { becomes "$(serve :9443)" unhealthy; }

stop() {
	local start=$SECONDS status
	docker stop "$server"
	status=$(docker container inspect --format '{{.State.ExitCode}}' "$server")
	docker logs "$server" | tail -n 5
	echo "status $status after $((SECONDS - start)) s"
	[ "$status" -eq 0 ] && docker logs "$server" | grep -q '^stopped: '
}

# attempt runs a function in the background, in a separate process group, and waits for it. So the
# script reacts to a signal at once, and clean_up can end all processes. Do not write
# `attempt ... ||`: bash would then ignore set -e inside it.
attempt() {
	local status=0
	set -m
	("$@" 2>&1 | tee "$work/step.log") </dev/null &
	job=$!
	set +m
	wait "$job" || status=$?
	job=
	last_status=$status
}

# step attempts a function, and adds a row to the table.
step() {
	local name=$1 start=$SECONDS mark=ok
	shift
	printf '\n## %s\n' "$name"
	attempt "$@"
	[ "$last_status" -eq 0 ] || mark=FAILED failed=1
	table+=$(printf '%-28s  %-6s  %4d s  %s' "$name" "$mark" $((SECONDS - start)) "$(tail -n 1 "$work/step.log")")$'\n'
}

test_images() {
	table=
	failed=0
	[ "$base $runtime" != "$local_base $local_runtime" ] || step 'the base images' need_bases
	step 'all tests, in an image' build_test
	step 'the image of the demo' build_demo
	step 'the demo runs' scenario
	server=$(serve :8443) || server=none
	step 'its server is healthy' healthy
	step 'the server is not root' user
	step 'a check from elsewhere' other_container
	step 'a server that hangs' hang
	step 'a server on another port' other_port
	step 'docker stop' stop
	printf '\n%s' "$table"
	return "$failed"
}

case ${1:-} in
base)
	connect
	attempt make_bases
	exit "$last_status"
	;;
test)
	connect
	test_images
	;;
*) fail 'usage: scripts/docker.sh base|test' ;;
esac
