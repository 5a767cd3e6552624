#!/usr/bin/env bash
# Starts a private SLURM on this machine: munged, slurmctld and one slurmd per emulated node. Everything that it
# writes lies under DIR; /etc/slurm and /etc/munge are neither read nor changed. For tests and for trying jobs out.
#
#     eval "$(scripts/start_slurm.sh DIR)"                  # prints `export SLURM_CONF=…`: sbatch and the like need it
#     NODES=2 CPUS=4 GPUS=2 scripts/start_slurm.sh DIR      # nodes n1 and n2; CPUS and GPUS (in name only) of each
#     scripts/stop_slurm.sh DIR
#
# Needs root and `apt-get install -y --no-install-recommends slurm-wlm munge`; no systemd.
set -euo pipefail

fail() {
  echo "error: $*" >&2
  exit 1
}

[ $# -eq 1 ] || fail "one argument: the folder that the private SLURM lives in, such as /tmp/slurm"
for tool in munged slurmctld slurmd sbatch; do
  command -v "$tool" >/dev/null || fail "$tool is missing: apt-get install -y --no-install-recommends slurm-wlm munge"
done
[ "$(id -u)" = 0 ] || fail "needs root: slurmd starts jobs as the users that submit them"

nodes=${NODES:-1} cpus=${CPUS:-4} gpus=${GPUS:-0}
mkdir -p "$1"
dir=$(realpath "$1") host=$(hostname -s)
# a Unix socket's path has 108 bytes; munged would say so only in its log
[ ${#dir} -le 80 ] || fail "$dir: the path is too long for munged's socket; use one such as /tmp/slurm"
[ ! -e "$dir/run/slurmctld.pid" ] || fail "$dir: a SLURM runs there already (or died): scripts/stop_slurm.sh $dir"
mkdir -p "$dir"/{munge,state,spool,log,run}
chmod 700 "$dir/munge"
[ -s "$dir/munge/key" ] || (umask 377 && head -c 1024 /dev/urandom >"$dir/munge/key")

next_port=$((20000 + RANDOM % 10000))
free_port() { # sets `port` to one that nobody listens on
  while (exec 3<>"/dev/tcp/127.0.0.1/$next_port") 2>/dev/null; do next_port=$((next_port + 1)); done
  port=$next_port next_port=$((next_port + 1))
}

export SLURM_CONF="$dir/slurm.conf"
free_port
# - cred_expire: a requeued job waits so long (by default two minutes) before it may start again; less than 5 is refused.
# - config_overrides: takes the CPUs below for granted, whatever this machine has. The memory is pretended, too: a job
#   that asks for more than a node has is refused at once.
# - linuxproc, none: no cgroups and no accounting are needed. Without accounting `sacct` knows nothing.
# - EnforcePartLimits: what no node could ever run is refused, and does not wait for ever.
# - NoCtldInAddrAny, NoInAddrAny: listen on 127.0.0.1 only.
# - ReturnToService: a node that was killed comes back by itself.
# - MinJobAge: for so many seconds squeue still shows a job that has ended.
cat >"$SLURM_CONF" <<CONF
ClusterName=private
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/run/munge.socket,cred_expire=5
CryptoType=crypto/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/slurmd-%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd-%n.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
EnforcePartLimits=ALL
KillWait=5
MinJobAge=300
MaxArraySize=1001
GresTypes=gpu
CONF
: >"$dir/gres.conf"
for ((i = 1; i <= nodes; i++)); do
  free_port
  gres=""
  if [ "$gpus" -gt 0 ]; then
    gres="Gres=gpu:$gpus"
    for ((g = 0; g < gpus; g++)); do : >"$dir/gpu$g"; done  # a count without device files is refused
    echo "NodeName=n$i Name=gpu File=$dir/gpu[0-$((gpus - 1))]" >>"$dir/gres.conf"
  fi
  # several slurmd on one host are told apart by name and port; the names do not resolve, the addresses do
  echo "NodeName=n$i NodeHostname=$host NodeAddr=127.0.0.1 Port=$port CPUs=$cpus RealMemory=100000 $gres" >>"$SLURM_CONF"
done
echo "PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP" >>"$SLURM_CONF"

# --force: munged else refuses a key in a folder that only its owner may enter
munged --force --num-threads=2 --key-file="$dir/munge/key" --seed-file="$dir/munge/seed" \
  --socket="$dir/run/munge.socket" --pid-file="$dir/run/munged.pid" --log-file="$dir/log/munged.log" >&2
slurmctld -c -i >&2
for ((i = 1; i <= nodes; i++)); do slurmd -N "n$i" >&2; done

for _ in $(seq 100); do
  if [ "$(timeout 5 sinfo --noheader --Node --states=idle --format=%N 2>/dev/null | sort -u | wc -l)" = "$nodes" ]; then
    echo "export SLURM_CONF=$SLURM_CONF"
    exit 0
  fi
  sleep 0.1
done
fail "the nodes did not come up within ten seconds; see $dir/log"
