#!/bin/sh
# The Debian packages that these tests need. Where they cannot be installed, the tests that need them are skipped.
set -eu
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0
missing=""
for package in iproute2 util-linux iptables openssh-server rsync munge slurmctld slurmd slurm-client buildah systemd; do
  dpkg --status "$package" >/dev/null 2>&1 || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 # none of them is to start a service
apt-get update --quiet=2
# shellcheck disable=SC2086  # one word each
apt-get install --quiet=2 --no-install-recommends $missing
