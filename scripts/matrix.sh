#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0

# Runs a command with each version of OpenSSL, in root file systems of Debian's suites, and prints a
# table.
#
#	scripts/matrix.sh [command]
#
# Without arguments the command is `make test`. VERSION="3.5 4.0" selects versions. CACHE (.matrix)
# keeps the roots. The script needs root, Debian or Ubuntu, and mmdebstrap, which it installs. The
# mirrors are those of this machine's own apt; DEBIAN_MIRROR and DEBIAN_SECURITY_MIRROR name others.
#
# CACHE/transcripts gets what libssl showed in the scripts of conformance/. `make versions` makes
# docs/versions.md from it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/mirror.sh

MODULE=$PWD
CACHE=${CACHE:-$PWD/.matrix}
GOROOT_DIR=$(go env GOROOT)
MODCACHE=$(go env GOMODCACHE)
export MODULE CACHE GOROOT_DIR MODCACHE
roots=$CACHE/roots
transcripts=$CACHE/transcripts
WORK= # for this run alone: other runs may work at the same moment
export WORK
all="1.1.1 3.0 3.5 3.6 4.0"

# suite prints the newest suite that has a version.
suite() {
	case $1 in
	1.1.1) echo bullseye ;;
	3.0) echo bookworm ;;
	3.5) echo trixie ;;
	3.6) echo sid ;;
	4.0) echo experimental ;;
	*) echo "matrix: $1 is not one of: $all" >&2 && return 1 ;;
	esac
}

prepare() {
	[ "$(id -u)" -eq 0 ] || { echo 'matrix: only root can make root file systems: sudo make test-matrix' >&2 && exit 1; }
	if ! command -v mmdebstrap >/dev/null; then
		apt-get update -qq
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap </dev/null
	fi
	archive=${DEBIAN_MIRROR:-$(mirror '^(bookworm|trixie|bullseye|sid)$')}
	security=${DEBIAN_SECURITY_MIRROR:-$(mirror '-security$')}
	mkdir -p "$roots" "$CACHE/gocache" "$transcripts"
	WORK=$(mktemp -d "$CACHE/run.XXXXXX")
	trap 'rm -rf --one-file-system "$WORK"' EXIT
	mkdir "$WORK/transcripts"
	go mod download
}

# make_root makes the root of a suite. The folder gets its name when it is complete.
make_root() {
	local name=$1 new=$roots/$1.new
	rm -rf --one-file-system "$new"
	local from=("deb $archive $name main") suite=$name hooks=()
	case $name in
	sid) ;;
	experimental)
		suite=sid
		from=("deb $archive sid main" "deb $archive experimental main")
		printf 'Package: src:openssl\nPin: release a=experimental\nPin-Priority: 990\n' >"$WORK/pin"
		# shellcheck disable=SC2016 # the shell that runs the hook expands its variables
		hooks=(--setup-hook='mkdir -p "$1/etc/apt/preferences.d" && cp "$WORK/pin" "$1/etc/apt/preferences.d/"')
		;;
	*) from+=("deb $security $name-security main") ;;
	esac
	# Check-Valid-Until: the updates of bullseye have ended, and their last index is no longer valid.
	# mmdebstrap still verifies signatures.
	mmdebstrap --quiet --mode=root --variant=extract "${hooks[@]}" \
		--aptopt='Acquire::Check-Valid-Until "false"' --aptopt='APT::Install-Recommends "false"' \
		--include=base-files,bash,coreutils,curl,dash,findutils,gawk,gcc,grep,libc6-dev,libssl-dev,make,openssl,pkg-config,sed \
		"$suite" "$new" "${from[@]}"
	# An extracted root has not run the scripts of the packages. Make what they would have made.
	printf 'root:x:0:0:root:/root:/bin/sh\n' >"$new/etc/passwd"
	printf 'root:x:0:\n' >"$new/etc/group"
	printf '127.0.0.1 localhost\n::1 localhost\n' >"$new/etc/hosts"
	[ -e "$new/usr/bin/awk" ] || ln -s gawk "$new/usr/bin/awk"
	mkdir -p "$new"/{proc,dev,tmp,root,src,gomod,gocache,transcripts} "$new$GOROOT_DIR"
	chmod 1777 "$new/tmp"
	mv "$new" "$roots/$name"
}

# inside runs a command in a root, in a separate mount name space that ends with the command. The
# versions share a build cache. CGO_CFLAGS keeps their objects apart.
inside() {
	export ROOT=$roots/$1
	shift
	unshare --mount --propagation private -- bash -euc '
		bind() { mount --bind "$1" "$ROOT$2"; }
		bind "$GOROOT_DIR" "$GOROOT_DIR"
		bind "$MODULE" /src
		bind "$MODCACHE" /gomod
		bind "$CACHE/gocache" /gocache
		bind "$WORK/transcripts" /transcripts
		bind /dev /dev
		mount -t proc proc "$ROOT/proc"
		exec chroot "$ROOT" /usr/bin/env -i HOME=/root LANG=C.UTF-8 PATH="$GOROOT_DIR/bin:/usr/bin:/bin:/usr/sbin:/sbin" \
			GOMODCACHE=/gomod GOCACHE=/gocache GOFLAGS=-buildvcs=false GOTOOLCHAIN=local GOPROXY=off GOSUMDB=off \
			SSLCTX_TRANSCRIPTS=/transcripts ${SSLCTX_TORTURE:+SSLCTX_TORTURE="$SSLCTX_TORTURE"} \
			sh -c "cd /src && CGO_CFLAGS=\$(scripts/cflags.sh) && export CGO_CFLAGS && exec \"\$@\"" sh "$@"' bash "$@"
}

# count adds up one kind of result over all lines "N passed, N failed, N skipped" of a log.
count() { awk -v what="$2" '/^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ {
	n[1] += $1; n[2] += $3; n[3] += $5; ran = 1 } END { print ran ? n[what] : "none" }' "$1"; }

# deviations prints the number of script lines in which the binding differed from a release.
deviations() { grep -o '"Deviations":[0-9]*' "$WORK/transcripts/$1.json" 2>/dev/null | cut -d: -f2; }

[ $# -gt 0 ] || set -- make test
prepare
table=
failed=0
for version in ${VERSION:-$all}; do
	name=$(suite "$version")
	start=$SECONDS
	(
		flock 9 # another run may make the root at the same moment
		[ -d "$roots/$name" ] || make_root "$name"
	) 9>"$roots/$name.lock"
	made=$((SECONDS - start))
	linked=$(inside "$name" openssl version | cut -d' ' -f2)
	case $linked in
	"$version"*) ;;
	*) echo "matrix: $name has OpenSSL $linked, not $version" >&2 && failed=1 ;;
	esac
	printf '\n## OpenSSL %s\n' "$linked"
	log=$WORK/$version.log
	inside "$name" "$@" 2>&1 | tee "$log" || failed=1
	table+=$(printf '%-8s  %6s  %8s  %7s  %10s  %6d s  %4d s' "$linked" "$(count "$log" 1)" "$(count "$log" 2)" \
		"$(count "$log" 3)" "$(deviations "$linked")" "$made" $((SECONDS - start - made)))$'\n'
	mv -f "$log" "$CACHE/"
	[ ! -e "$WORK/transcripts/$linked.json" ] || mv -f "$WORK/transcripts/$linked.json" "$transcripts/"
done
printf '\nOpenSSL   passed  failures  skipped  deviations      root   tests\n%s' "$table"
exit "$failed"
