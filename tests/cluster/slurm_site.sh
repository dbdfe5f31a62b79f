#!/bin/bash
# A Slurm site for tests, within namespaces of its own: slurm_site.sh FOLDER, as their first process.
# A controller on 10.78.0.100, nodes n1 and n2 on 10.78.0.1 and .2, each with its own network, name, processes and
# scratch. FOLDER and the rest of the file system are shared. All of it ends with this process.
set -eu
folder=$1
export SLURM_CONF=$folder/slurm.conf

if [ "$#" -eq 1 ]; then # the controller
  hostname ctl
  for host in "127.0.0.1 localhost" "10.78.0.100 ctl" "10.78.0.1 n1" "10.78.0.2 n2"; do echo "$host"; done >"$folder/hosts"
  mount --bind "$folder/hosts" /etc/hosts
  ip link set lo up
  ip link add br0 type bridge
  ip address add 10.78.0.100/24 dev br0
  ip link set br0 up
  dd if=/dev/urandom of="$folder/munge.key" bs=64 count=1 status=none
  chmod 600 "$folder/munge.key"
  munged --foreground --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" \
    --pid-file="$folder/munge.pid" --seed-file="$folder/munge.seed" --log-file="$folder/munge.log" &
  until [ -S "$folder/munge.socket" ]; do sleep .1; done
  slurmctld -i -D 2>"$folder/slurmctld.err" &
  for i in 1 2; do
    unshare --net --mount --uts --pid --fork --mount-proc --kill-child "$0" "$folder" "$i" &
    until [ -e "/proc/$!/ns/net" ] && [ "$(readlink "/proc/$!/ns/net")" != "$(readlink /proc/$$/ns/net)" ]; do sleep .1; done
    ip link add "p$i" type veth peer name eth0 netns $!
    ip link set "p$i" master br0 up
  done
  wait
else # node n$2
  hostname "n$2"
  mount -t tmpfs tmpfs /dev/shm
  mount -t tmpfs tmpfs /mnt # scratch, whose name is short enough for sockets in it
  until ip link show eth0 >/dev/null 2>&1; do sleep .1; done
  ip link set lo up
  ip address add "10.78.0.$2/24" dev eth0
  ip link set eth0 up
  exec slurmd -D -N "n$2" 2>"$folder/slurmd-n$2.err"
fi
