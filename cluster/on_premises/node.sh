#!/bin/bash
# One machine of a Ray cluster, as the settings say: node.sh head|worker [SETTINGS], by default /etc/ebm.env.
# It ends when Ray does; systemd, or supervise.sh, starts it again.
set -eu
set -a
# shellcheck disable=SC1090
. "${2:-/etc/ebm.env}"
set +a
flags=(--block --disable-usage-stats)
case ${1:-} in
head) flags+=(--head --node-ip-address="$EBM_HEAD" --port="$EBM_PORT" --dashboard-host="$EBM_HEAD" --num-cpus=0 --num-gpus=0) ;;
worker) flags+=(--address="$EBM_HEAD:$EBM_PORT" ${EBM_CPUS:+--num-cpus="$EBM_CPUS"} ${EBM_GPUS:+--num-gpus="$EBM_GPUS"}) ;;
*) echo "usage: node.sh head|worker [SETTINGS]" >&2 && exit 2 ;;
esac
# shellcheck disable=SC1091
. "$EBM_ENVIRONMENT/bin/activate"
ulimit -n 65536 2>/dev/null || true
exec ray start "${flags[@]}"
