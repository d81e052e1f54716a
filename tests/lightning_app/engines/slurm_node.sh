#!/usr/bin/env bash
# A SLURM cluster of one node on the loopback address, for tests: slurm_node.sh start|stop FOLDER
# Debian's packages, no accounting; everything but the packages lies in FOLDER. Exit 3: not possible here.
set -euo pipefail
folder=$2

stop() {
    for name in slurmd slurmctld munged; do
        [ -s "$folder/$name.pid" ] && kill "$(cat "$folder/$name.pid")" 2>/dev/null || true
    done
}

start() {
    [ "$(id -u)" = 0 ] || { echo "SLURM's daemons are started as root here"; exit 3; }
    if ! command -v slurmctld slurmd munged srun >/dev/null 2>&1; then
        command -v apt-get >/dev/null || { echo "no SLURM and no apt-get to install it with"; exit 3; }
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
            --no-install-recommends slurmctld slurmd slurm-client munge; } >"$folder/apt.log" 2>&1 ||
            { echo "SLURM's packages could not be installed: $(tail -n 1 "$folder/apt.log")"; exit 3; }
    fi
    mkdir -p "$folder/state" "$folder/spool"
    head -c 128 /dev/urandom >"$folder/munge.key"
    chmod 400 "$folder/munge.key"
    write_configuration
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
        --pid-file="$folder/munged.pid" --seed-file="$folder/munge.seed" --log-file="$folder/munged.log"
    export SLURM_CONF=$folder/slurm.conf
    slurmctld -c
    slurmd -N node1
    for _ in $(seq 60); do
        [ "$(sinfo --noheader --format=%t 2>/dev/null)" = idle ] && return
        sleep 0.5
    done
    echo "the node did not come up: $(tail -n 3 "$folder"/slurm*.log)"
    stop
    exit 1
}

write_configuration() {
    # cred_expire: how long a requeued job is held back. KillWait: what a cancelled cell has for a checkpoint.
    # The timeouts: on a busy machine SLURM takes a slow start for a lost one, and ends the job.
    cat >"$folder/slurm.conf" <<END
ClusterName=inkbeat-test
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=root
SlurmctldPort=$((20000 + $$ % 10000))
SlurmdPort=$((30000 + $$ % 10000))
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
KillWait=30
BatchStartTimeout=120
MessageTimeout=60
TCPTimeout=30
NodeName=node1 NodeHostname=$(hostname) NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=node1 Default=YES MaxTime=INFINITE State=UP
END
}

"$1"
