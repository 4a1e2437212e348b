#!/usr/bin/env bash
# The commands of README on a fresh machine, as root and as an ordinary user.
#
# The machine is a minimal root of this machine's own distribution, made by
# debootstrap, with an empty /run and /tmp, a login's PATH and a clean clone of HEAD
# (scripts/fresh-enter.sh). Of this machine it has the Rust toolchain and the crates
# (both read-only), and what apt needs to reach its archive. Everything else the
# commands have to see to themselves. RINGWAY_LONG: all of `make test` there.
#
# In target/fresh, readable by root only, stay `base` (remove it for a newer one),
# apt's packages, the target folder of the fresh machine, and the logs. Where
# debootstrap cannot reach the archive, this is SKIPPED.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

need_root "make fresh"
fresh_dir=$target_dir/fresh
root=$fresh_dir/root
tests=test-unit
[ -z "${RINGWAY_LONG:-}" ] || tests=test

skip_all() { # reason
    skip "a fresh machine: make demo and make $tests" "$1"
    exit 0
}
if ! sources=$(scripts/apt-sources.sh 2>&1); then skip_all "${sources#error: }"; fi
read -r mirror _ <<<"$sources"
mirror=${mirror%/}
codename=$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")

# debootstrap and wget know apt's proxy only by the variable.
proxy=$(apt-config shell proxy Acquire::http::Proxy)
eval "$proxy"
[ "$proxy" != DIRECT ] || proxy=
by_proxy() { env ${proxy:+http_proxy="$proxy"} "$@"; }
by_proxy wget -q --tries=2 --timeout=20 -O /dev/null "$mirror/dists/$codename/Release" ||
    skip_all "debootstrap cannot reach $mirror ($codename)"

as_caller mkdir -p "$target_dir"
mkdir -p "$fresh_dir"/{archives/partial,target}
chmod 700 "$fresh_dir"

make_base() {
    rm -rf "$fresh_dir/base.new"
    # make is what README asks for beside Rust.
    by_proxy debootstrap --variant=minbase --include=make --cache-dir="$fresh_dir/archives" "$codename" "$fresh_dir/base.new" "$mirror" \
        >"$fresh_dir/debootstrap.log" 2>&1 || { tail -5 "$fresh_dir/debootstrap.log"; return 1; }
    rm -rf "$fresh_dir"/base.new/var/lib/apt/lists/*
    # By rename: a base that is there is whole.
    mv "$fresh_dir/base.new" "$fresh_dir/base"
}

# Rust and the crates, as somebody's installation for all users.
sysroot=$(as_caller rustc --print sysroot)
[ "$sysroot" != /usr ] || skip_all "Rust is the system's package here: it cannot be lent to another root"
host=$(as_caller rustc -vV | sed -n 's/^host: //p')
run_cargo fetch --locked --quiet --target "$host"
crates=${CARGO_HOME:-${caller_home:-$HOME}/.cargo}/registry

install_machine() {
    rm -rf "$root"
    cp -a "$fresh_dir/base" "$root"
    # The network's names and ways, and nothing of apt's that is a habit of this machine.
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    { cat /etc/hosts; say "127.0.1.1 fresh"; } >"$root/etc/hosts"
    say fresh >"$root/etc/hostname"
    sed 's/^/deb /' <<<"$sources" >"$root/etc/apt/sources.list"
    apt-config dump | grep -E '^Acquire::(https?|Check-)' >"$root/etc/apt/apt.conf.d/01network" || true
    env | grep -iE '^(https?|no|all)_proxy=.' >>"$root/etc/environment" || true
    local certificates=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
    [ ! -r "$certificates" ] || install -D -m 644 "$certificates" "$root/etc/ssl/certs/ca-certificates.crt"

    mkdir -p "$root/usr/local/cargo/bin" "$root/home/somebody"
    ln -s ../../rust/bin/{cargo,rustc,rustdoc} "$root/usr/local/cargo/bin/"
    printf 'export CARGO_HOME=/usr/local/cargo CARGO_INCREMENTAL=0\nPATH=$CARGO_HOME/bin:$PATH\n' >"$root/etc/profile.d/rust.sh"
    chroot "$root" useradd --uid 1000 --shell /bin/bash --no-create-home somebody
    chown 1000:1000 "$root/home/somebody"
    # Optimising takes half of the build's time; what it is good for is measured elsewhere.
    if [ -z "${RINGWAY_LONG:-}" ]; then
        mkdir "$root/home/somebody/.cargo"
        printf '[profile.release]\nlto = "off"\nopt-level = 1\ncodegen-units = 16\ndebug = false\n[profile.dev]\ndebug = false\n' >"$root/home/somebody/.cargo/config.toml"
    fi

    local clone
    clone=$(as_caller mktemp -d)
    as_caller git -c advice.detachedHead=false clone --quiet --depth 1 "file://$root_dir" "$clone/ringway"
    mv "$clone/ringway" "$root/home/somebody/ringway"
    rmdir "$clone"
    chown -R root:root "$root/home/somebody/ringway"
}

enter() { # user command: its output goes to a log, shown where it fails
    local log code=0
    log=$fresh_dir/$(tr -c 'a-z\n' '-' <<<"$1 $2" | cut -c1-40).log
    scripts/fresh-enter.sh "$fresh_dir" "$sysroot" "$crates" "$1" "$2" </dev/null >"$log" 2>&1 || code=$?
    if [ "$code" != 0 ]; then
        tail -60 "$log" | sed 's/^/   /'
        say "   exit code $code, whole log: $log"
    else
        grep -E '^ *SKIPPED|^[0-9]+ passed, ' "$log" | sed 's/^ */   /' || true
    fi
    return "$code"
}

# Without root and sudo it ends before it builds anything, with what to do.
demo_without_sudo() {
    local said
    if said=$(enter somebody "make demo"); then return 1; fi
    grep -q 'run as root:  make demo' <<<"$said" && ! grep -q Compiling <<<"$said"
}

# The checkout is theirs from now on; one crate is due to be built.
give_to_somebody() {
    enter root "apt-get -q install -y --no-install-recommends sudo"
    chown -R 1000:1000 "$root/home/somebody" "$root/usr/local/cargo" "$fresh_dir/target"
    say 'somebody ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/somebody"
    touch "$root/home/somebody/ringway/cni/src/main.rs" "$fresh_dir/begin"
}

builds_are_theirs() {
    local others
    others=$(find "$fresh_dir/target" -newer "$fresh_dir/begin" -not -user 1000)
    [ -z "$others" ] || { say "   not the caller's: $others"; return 1; }
    [ -n "$(find "$fresh_dir/target" -newer "$fresh_dir/begin" -name ringway-cni)" ]
}

[ -d "$fresh_dir/base" ] || check "fresh machine: debootstrap $codename, once" make_base
[ -d "$fresh_dir/base" ] || die "there is no fresh machine; debootstrap's log: $fresh_dir/debootstrap.log"
install_machine
check "fresh machine, a user without sudo: make demo says what to do" demo_without_sudo
check "fresh machine, root: make demo" enter root "make demo"
check "fresh machine, root: make $tests" enter root "make $tests"
give_to_somebody
check "fresh machine, a user with sudo: make demo" enter somebody "make demo"
check "fresh machine: what a user builds is theirs" builds_are_theirs
[ "$failed" = 0 ] || die "$failed checks on a fresh machine failed; it stays in ${root#"$root_dir/"} for a look"
rm -rf "$root"
