#!/usr/bin/env bash
# cargo, as the person who called, also under sudo.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
run_cargo "$@"
