#!/usr/bin/env bash
# Runs the measuring tool from the release build, and fails when it leaves
# namespaces behind: perf.sh demo | compare | ...
set -euo pipefail
. "$(dirname "$0")/lib.sh"

before=$(scripts/leftovers.sh list)
code=0
"$target_dir/release/ringway-perf" "$@" </dev/null || code=$?
scripts/leftovers.sh check "$before" || code=1
# Results belong to whoever called sudo, as everything that is built does.
if [ -n "$caller" ] && [ -d perf/results ]; then chown -R "$caller" perf/results; fi
exit "$code"
