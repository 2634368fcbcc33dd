#!/usr/bin/env bash
# A slurm of one node, this machine, on free ports of the loopback address, without accounting: for tests, as root.
#
#   bash slurm_node.sh start FOLDER     prints SLURM_CONF=…, to be exported
#   bash slurm_node.sh stop FOLDER
#
# The node says that it has 8 CPUs, so that jobs that only wait leave room. Needs Debian's slurm-wlm and munge. All that it writes is in FOLDER, whose path must be short (a socket is in it).
set -euo pipefail

what=${1:?start or stop}
mkdir -p "${2:?a folder}"
folder=$(cd "$2" && pwd)
conf=$folder/slurm.conf

free_ports() {
  python3 - <<'P'
import socket
sockets = [socket.create_server(('127.0.0.1', 0)) for _ in range(2)]
print(*(s.getsockname()[1] for s in sockets))
P
}

case $what in
  start)
    mkdir -p "$folder/state" "$folder/spool"
    chmod 755 "$folder"
    host=$(hostname)
    read -r control node < <(free_ports)
    head -c 1024 /dev/urandom >"$folder/munge.key"
    chmod 600 "$folder/munge.key"
    # --force: the folder may lie below one that others write to, such as /tmp
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
      --log-file="$folder/munged.log" --seed-file="$folder/munge.seed" 2>>"$folder/munged.err"
    # cred_expire is also how long a requeued job waits, 120 s by default
    cat >"$conf" <<C
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$control
SlurmdPort=$node
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=10
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
KillWait=2
MinJobAge=2
SchedulerParameters=sched_interval=2,bf_interval=2
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=8 RealMemory=$(awk '/MemTotal/{print int($2 / 1024 * 0.8)}' /proc/meminfo) State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=brief Nodes=ALL MaxTime=5 State=UP
C
    slurmctld -f "$conf"
    slurmd -f "$conf"
    export SLURM_CONF=$conf
    for _ in $(seq 60); do
      if [ "$(sinfo -h -p main -o %T 2>/dev/null)" = idle ]; then
        echo "SLURM_CONF=$conf"
        exit 0
      fi
      sleep 0.5
    done
    echo "the node has not come up; see the logs in $folder" >&2
    exit 1
    ;;
  stop)
    for name in slurmd slurmctld munged; do
      pid=$(cat "$folder/$name.pid" 2>/dev/null) || continue
      kill "$pid" 2>/dev/null || continue
      for _ in $(seq 100); do # until it has written its last
        grep -q '^State:[[:space:]]*[^Z]' "/proc/$pid/status" 2>/dev/null || break
        sleep 0.1
      done
    done
    ;;
  *)
    echo "start or stop; got $what" >&2
    exit 2
    ;;
esac
