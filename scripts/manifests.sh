#!/usr/bin/env bash
# Writes deploy/ringway.yaml, which is the parts of deploy/base one after the other, for those who apply one file.
# A test of the agent (tests/deploy.rs) fails while the two differ.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

parts() { sed -n 's/^  - \(.*\.yaml\)$/\1/p' deploy/base/kustomization.yaml; }

{
    say "# Ringway as the pod network of every node of a Kubernetes cluster (1.30 or later): docs/operations.md."
    say "# Written by scripts/manifests.sh from the parts in deploy/base: change those."
    while IFS= read -r part; do
        say "---"
        cat "deploy/base/$part"
    done < <(parts)
} >deploy/ringway.yaml
