#!/usr/bin/env bash
# Runs a command as root, by one call of sudo: as-root.sh make demo
#
# Before anything is built, so that nobody is asked for a password after ten
# minutes of it. sudo keeps the environment and PATH, which rustup's cargo needs;
# what the command builds still belongs to the caller (`as_caller` in lib.sh).
set -euo pipefail
. "$(dirname "$0")/lib.sh"

! is_root || exec "$@"
if ! command -v sudo >/dev/null; then
    die "$* makes network namespaces and TAP interfaces: it needs root, and there is no sudo here" "run as root:  $*"
fi
say "root is needed for network namespaces and TAP interfaces: calling sudo (the build still runs as you)"
code=0
sudo -E env "PATH=$PATH" "$@" || code=$?
# 1 is sudo's own; make ends with 2.
[ "$code" != 1 ] || warn "error: if sudo refused, run as root:  $*"
exit "$code"
