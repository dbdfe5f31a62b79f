#!/bin/bash
# What systemd does, where there is none: supervise.sh head|worker [SETTINGS] starts Ray again whenever it ends.
# SIGTERM ends both; Ray drains the machine first, for up to 30 seconds.
set -u
ends=""
trap 'ends=1; kill -TERM "$node" 2>/dev/null' TERM INT
while [ -z "$ends" ]; do
  "$(dirname "$0")/node.sh" "$@" &
  node=$!
  wait "$node"
  code=$?
  while kill -0 "$node" 2>/dev/null; do wait "$node"; done # a signal ends `wait`, not Ray
  [ "$code" -ne 2 ] || exit 2 # settings that cannot be used
  echo "$(date '+%F %T') Ray has ended with code $code"
  [ -n "$ends" ] || sleep 5
done
