#!/usr/bin/env bash
# Where apt gets this machine's own distribution from: "URI SUITE COMPONENT" lines,
# the release itself first. Other vendors' archives are left out.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

[ -r /etc/os-release ] && command -v apt-get >/dev/null || die "this is no Debian or Ubuntu: there is no apt-get"
codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
[ -n "$codename" ] || die "/etc/os-release names no release (VERSION_CODENAME)"
targets=$(apt-get indextargets --no-release-info --format '$(CREATED_BY) $(REPO_URI) $(RELEASE) $(COMPONENT)')
sources=$(awk -v release="^($codename|(old)*stable)(-updates|-security)?$" \
    '$1 == "Packages" && $3 ~ release && ($4 == "main" || $4 == "universe") && !seen[$0]++ {print $2, $3, $4}' <<<"$targets" |
    awk '{print ($2 ~ /-/), $0}' | sort -s -k1,1n | cut -d' ' -f2-)
[ -n "$sources" ] || die "apt's sources name no archive of $codename"
say "$sources"
