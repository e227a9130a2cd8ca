#!/usr/bin/env bash
# A real Slurm of one host, for tests.
#
# Starts munged, slurmctld and slurmd with all that they write in a temporary folder, says `ready SLURM_CONF` when jobs can
# be submitted with that configuration, and stops them and removes the folder when its standard input is closed, so that
# nothing outlives whoever has started it. Needs root and the packages slurm-wlm and munge (Debian, Ubuntu); without them
# it says `skip: REASON`.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"
skip() { echo "skip: $*" && exit 0; }
[ "$(id -u)" = 0 ] || skip "a Slurm for tests takes root"
for program in munged munge slurmctld slurmd sbatch; do
    command -v "$program" >/dev/null || skip "$program is not installed (apt-get install slurm-wlm munge)"
done

# munged insists on folders that nobody else can write to.
umask 022
folder=$(mktemp -d)
mkdir "$folder"/{munge,log,control,node}
chmod 0755 "$folder" && chmod 0700 "$folder/munge"

stop() {
    trap - EXIT
    for daemon in slurmd slurmctld munged; do
        [ -s "$folder/$daemon.pid" ] || continue
        pid=$(cat "$folder/$daemon.pid")
        kill "$pid" 2>/dev/null || continue
        for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || continue 2; sleep 0.1; done
        kill -9 "$pid" 2>/dev/null || true
    done
    rm -rf "$folder"
}
trap stop EXIT
trap 'exit 1' INT TERM HUP

free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 20000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port" && return; }
    done
}

head -c 1024 /dev/urandom > "$folder/munge/key" && chmod 0400 "$folder/munge/key"
socket=$folder/munge.socket
munged --force --key-file="$folder/munge/key" --socket="$socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/log/munged" --seed-file="$folder/munge/seed" --num-threads=2

host=$(hostname -s)
memory=$(awk '/MemTotal/ { printf "%d", $2 / 1024 * 0.9 }' /proc/meminfo)
# Eight cores whatever there are: what is tested waits more than it computes.
cat > "$folder/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$socket
CredType=cred/munge
StateSaveLocation=$folder/control
SlurmdSpoolDir=$folder/node
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld
SlurmdLogFile=$folder/log/slurmd
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=2
CompleteWait=0
MinJobAge=300
DefMemPerCPU=100
NodeName=$host NodeAddr=127.0.0.1 CPUs=8 Boards=1 SocketsPerBoard=1 CoresPerSocket=8 ThreadsPerCore=1 RealMemory=$memory State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=60 State=UP
CONF
export SLURM_CONF=$folder/slurm.conf
slurmctld -f "$SLURM_CONF" -c
slurmd -f "$SLURM_CONF" -c -N "$host"

for _ in $(seq 200); do
    case "$(sinfo --noheader --format=%T 2>/dev/null || true)" in
    idle | mixed | allocated)
        echo "ready $SLURM_CONF"
        cat >/dev/null
        exit 0
        ;;
    down) scontrol update nodename="$host" state=resume || true ;;
    esac
    sleep 0.1
done
echo "the node did not come up; the ends of the logs:" >&2
tail -n 20 "$folder"/log/* >&2
exit 1
