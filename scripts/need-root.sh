#!/usr/bin/env bash
# need-root.sh COMMAND: fails with the way to run COMMAND unless it can run here.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_root "$*"
