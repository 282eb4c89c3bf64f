#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0

# Runs the tests with each version of OpenSSL, inside root file systems of Debian's suites, and ends with a table.
#
#	scripts/matrix.sh [go test arguments]
#
# VERSION="3.5 4.0" chooses versions; CACHE is where the roots are kept (.matrix). It needs root, Debian or Ubuntu,
# and mmdebstrap, which it installs. The mirrors are those of this machine's own apt; DEBIAN_MIRROR and
# DEBIAN_SECURITY_MIRROR are others.
set -euo pipefail
cd "$(dirname "$0")/.."

MODULE=$PWD
CACHE=${CACHE:-$PWD/.matrix}
GOROOT_DIR=$(go env GOROOT)
MODCACHE=$(go env GOMODCACHE)
export MODULE CACHE GOROOT_DIR MODCACHE
roots=$CACHE/roots
all="1.1.1 3.0 3.5 3.6 4.0"

# The newest suite that has it.
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

# The archive of this machine's apt whose release matches a pattern.
mirror() {
	apt-get indextargets --format '$(REPO_URI) $(RELEASE)' | awk -v release="$1" '$2 ~ release { print $1; exit }'
}

prepare() {
	[ "$(id -u)" -eq 0 ] || { echo 'matrix: root file systems need root: sudo make test-matrix' >&2 && exit 1; }
	if ! command -v mmdebstrap >/dev/null; then
		apt-get update -qq
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap </dev/null
	fi
	archive=${DEBIAN_MIRROR:-$(mirror '^(bookworm|trixie|bullseye|sid)$')}
	security=${DEBIAN_SECURITY_MIRROR:-$(mirror '-security$')}
	mkdir -p "$roots" "$CACHE/gocache"
	go mod download
}

# make_root makes the root of a suite once. It gets its name when it is complete.
make_root() {
	local name=$1 new=$roots/$1.new
	[ -d "$roots/$name" ] && return
	rm -rf --one-file-system "$new"
	local from=("deb $archive $name main") suite=$name hooks=()
	case $name in
	sid) ;;
	experimental)
		suite=sid
		from=("deb $archive sid main" "deb $archive experimental main")
		printf 'Package: src:openssl\nPin: release a=experimental\nPin-Priority: 990\n' >"$CACHE/pin"
		hooks=(--setup-hook='mkdir -p "$1/etc/apt/preferences.d"'
			--setup-hook="copy-in $CACHE/pin /etc/apt/preferences.d/")
		;;
	*) from+=("deb $security $name-security main") ;;
	esac
	mmdebstrap --quiet --mode=root --variant=extract "${hooks[@]}" \
		--aptopt='Acquire::Check-Valid-Until "false"' --aptopt='APT::Install-Recommends "false"' \
		--include=base-files,bash,coreutils,curl,dash,findutils,gawk,gcc,grep,libc6-dev,libssl-dev,openssl,pkg-config,sed \
		"$suite" "$new" "${from[@]}"
	# What the packages' scripts would have made, which an extracted root has not run.
	printf 'root:x:0:0:root:/root:/bin/sh\n' >"$new/etc/passwd"
	printf 'root:x:0:\n' >"$new/etc/group"
	printf '127.0.0.1 localhost\n::1 localhost\n' >"$new/etc/hosts"
	[ -e "$new/usr/bin/awk" ] || ln -s gawk "$new/usr/bin/awk"
	mkdir -p "$new"/{proc,dev,tmp,root,src,gomod,gocache} "$new$GOROOT_DIR"
	chmod 1777 "$new/tmp"
	mv "$new" "$roots/$name"
}

# inside runs a command in a root, in a mount name space of its own, which ends with it. The go command does not look
# into system headers, so that a tag of them keeps each version's objects apart in the cache that they share.
inside() {
	ROOT=$roots/$1
	TAG=$(cat "$ROOT"/usr/include/openssl/*.h "$ROOT"/usr/lib/*/lib{ssl,crypto}.so.* | sha256sum | cut -c1-16)
	export ROOT TAG
	shift
	unshare --mount --propagation private -- bash -euc '
		bind() { mount --bind "$1" "$ROOT$2"; }
		bind "$GOROOT_DIR" "$GOROOT_DIR"
		bind "$MODULE" /src
		bind "$MODCACHE" /gomod
		bind "$CACHE/gocache" /gocache
		bind /dev /dev
		mount -t proc proc "$ROOT/proc"
		exec chroot "$ROOT" /usr/bin/env -i HOME=/root LANG=C.UTF-8 PATH="$GOROOT_DIR/bin:/usr/bin:/bin:/usr/sbin:/sbin" \
			GOMODCACHE=/gomod GOCACHE=/gocache GOFLAGS=-buildvcs=false GOTOOLCHAIN=local GOPROXY=off GOSUMDB=off \
			${SSLCTX_TORTURE:+SSLCTX_TORTURE="$SSLCTX_TORTURE"} \
			"CGO_CFLAGS=-O2 -g -Wall -Wextra -Werror -Wno-unused-parameter -DSSLCTX_BUILD_ID=0x$TAG" \
			sh -c "cd /src && exec \"\$@\"" sh "$@"' bash "$@"
}

prepare
table=
failed=0
for version in ${VERSION:-$all}; do
	name=$(suite "$version")
	start=$SECONDS
	make_root "$name"
	linked=$(inside "$name" openssl version | cut -d' ' -f2)
	case $linked in
	"$version"*) ;;
	*) echo "matrix: $name has OpenSSL $linked, not $version" >&2 && failed=1 ;;
	esac
	printf '\n## OpenSSL %s\n' "$linked"
	log=$CACHE/$version.log
	inside "$name" scripts/gotest.sh "${@:-./...}" 2>&1 | tee "$log" || failed=1
	counts=$(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log" || echo 'did not run')
	table+=$(printf '%-8s  %-44s  %4d s' "$linked" "$counts" $((SECONDS - start)))$'\n'
done
printf '\nOpenSSL   tests                                          time\n%s' "$table"
exit "$failed"
