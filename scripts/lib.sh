# Shared by the scripts in this folder; sourced, not run.
#
# Builds run as the person who called, also under sudo (see `as_caller`), so
# that nothing in target/ or ~/.cargo ends up owned by root. Only what makes
# network namespaces runs as root.

# No script ends without a word: an unexpected failure is printed with its
# command and place. A command whose failure is handled (`if`, `||`, `!`) does
# not count. `set -E` and inherit_errexit take this into functions and $( ).
set -E
shopt -s inherit_errexit
report_failure() { # exit-code "exit codes of the pipeline" command
    local code=$1 pipeline=$2 command=${3%%$'\n'*} frame
    [[ $pipeline != *" "* ]] || command+="  (its pipeline ended with $pipeline)"
    printf 'error: %s: exit code %d from: %s\n' "$(place 1)" "$code" "$command" >&2
    for ((frame = 2; frame < ${#FUNCNAME[@]}; frame++)); do printf '       in %s, called at %s\n' "${FUNCNAME[frame - 1]}" "$(place "$frame")" >&2; done
}
place() { # frames above the caller's: file:line
    printf '%s:%d' "${BASH_SOURCE[$1 + 1]#"$root_dir/"}" "${BASH_LINENO[$1]}"
}
trap 'report_failure $? "${PIPESTATUS[*]}" "$BASH_COMMAND"' ERR

root_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root_dir"
target_dir=${CARGO_TARGET_DIR:-$root_dir/target}

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$1" >&2; shift; for line in "$@"; do printf '       %s\n' "$line" >&2; done; exit 1; }
is_root() { [ "$(id -u)" = 0 ]; }

# The user builds belong to: the one who called sudo, unless the checkout is
# not theirs (then they could not write target/ anyway).
caller=
if is_root && [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ] &&
    [ "$(stat -c %u "$root_dir")" = "${SUDO_UID:-none}" ]; then
    caller=$SUDO_USER
    caller_home=$(getent passwd "$caller" | cut -d: -f6)
fi

# On Debian a user's PATH has no sbin, where ethtool lies; `sudo env PATH=$PATH`
# carries that over to root.
PATH=$PATH:/usr/sbin:/sbin

# sudo usually replaces PATH and HOME; rustup's cargo needs both as they were.
for dir in "${CARGO_HOME:-}/bin" "${caller_home:-$HOME}/.cargo/bin"; do
    if ! command -v cargo >/dev/null && [ -x "$dir/cargo" ]; then PATH=$dir:$PATH; fi
done

as_caller() {
    if [ -n "$caller" ]; then
        runuser -u "$caller" -- env HOME="$caller_home" USER="$caller" LOGNAME="$caller" PATH="$PATH" "$@"
    else
        "$@"
    fi
}

run_cargo() {
    command -v cargo >/dev/null || die "cargo is not on PATH" "install Rust from https://rustup.rs, then run this again"
    as_caller cargo "$@"
}

# need_root COMMAND: fails unless root may do here what COMMAND does; before
# anything is built, not after ten minutes of it.
need_root() {
    is_root || die "this makes network namespaces and TAP interfaces: it must start as root (the build still runs as you)" \
        "run:  $1   (it calls sudo where there is one)"
    unshare --net true 2>/dev/null || die "this root may not make network namespaces (a container without CAP_SYS_ADMIN?)" \
        "run it on the machine itself, or in a container started with --privileged"
    [ -c /dev/net/tun ] || die "/dev/net/tun does not exist" "run:  modprobe tun   (in a container: start it with --device /dev/net/tun)"
}

# One line per finished check into the file a caller gathers totals from.
counts_file=${RINGWAY_COUNTS:-}
count() { # passed failed skipped name
    [ -z "$counts_file" ] || printf '%s %s %s %s\n' "$1" "$2" "$3" "$4" >>"$counts_file"
}

# check NAME COMMAND...: runs one check with its time, counts it, and remembers
# a failure in $failed without stopping the ones after it.
failed=0
check() {
    local name=$1 begin=$SECONDS
    shift
    say "── $name"
    if "$@"; then
        say "   passed, $((SECONDS - begin)) s"
        count 1 0 0 "$name"
    else
        say "   FAILED, $((SECONDS - begin)) s: $name"
        count 0 1 0 "$name"
        failed=$((failed + 1))
    fi
}

skip() { # name reason
    say "── $1"
    say "   SKIPPED: $2"
    count 0 0 1 "$1"
}

# may_skip LINE: whether scripts/may-skip.txt lets a test print it.
may_skip() {
    local allowed
    allowed=$(grep -vE '^(#|$)' scripts/may-skip.txt)
    grep -qFe "$allowed" <<<"$1"
}
