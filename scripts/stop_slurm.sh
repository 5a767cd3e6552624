#!/usr/bin/env bash
# Stops the private SLURM that `scripts/start_slurm.sh DIR` started: cancels its jobs and ends its daemons, and no
# others. The folder stays.
set -euo pipefail

if [ $# -ne 1 ] || [ ! -f "$1/slurm.conf" ]; then
  echo "error: one argument: a folder that scripts/start_slurm.sh was given" >&2
  exit 1
fi
dir=$(realpath "$1")
export SLURM_CONF="$dir/slurm.conf"

# a process that has ended but was not collected yet has ended, too: where PID 1 collects seldom, that takes seconds
alive() { [ -r "/proc/$1/stat" ] && ! grep -q '^[0-9]* (.*) Z' "/proc/$1/stat" 2>/dev/null; }

# slurmd leaves the processes of running jobs behind when it is stopped, so the jobs go first
timeout 5 scancel --user="$(id -un)" 2>/dev/null || true
for _ in $(seq 80); do
  [ -n "$(timeout 3 squeue --noheader 2>/dev/null || true)" ] || break
  sleep 0.1
done

for file in "$dir"/run/{slurmctld,slurmd-*,munged}.pid; do
  [ -s "$file" ] || continue
  pid=$(cat "$file") name=$(basename "$file" .pid)
  name=${name%%-*}
  # the number may meanwhile be another process's
  if alive "$pid" && tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q "$name"; then
    kill "$pid"
    for _ in $(seq 50); do
      alive "$pid" || break
      sleep 0.1
    done
    ! alive "$pid" || kill -9 "$pid"
  fi
  rm -f "$file"
done
