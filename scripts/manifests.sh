#!/usr/bin/env bash
# Writes deploy/ringway.yaml, which is the parts of deploy/base one after the other, for those who apply one file, and
# deploy/monitoring/prometheusrule.yaml, which is rules.yaml for the Prometheus operator. Tests of the agent
# (tests/deploy.rs, tests/monitoring.rs) fail while they differ.
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

{
    say "# rules.yaml for the Prometheus operator, written by scripts/manifests.sh: change that."
    say "apiVersion: monitoring.coreos.com/v1"
    say "kind: PrometheusRule"
    say "metadata:"
    say "  name: ringway"
    say "  namespace: ringway"
    say "  labels:"
    say "    app.kubernetes.io/name: ringway"
    say "spec:"
    sed -e '/^#/d' -e 's/^/  /' deploy/monitoring/rules.yaml
} >deploy/monitoring/prometheusrule.yaml
