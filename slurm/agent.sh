# `agent.sh ARGUMENTS…`: the torchrun agent of one node of a job. srun starts it once on each; the agents meet
# at an address of the first node and start PROCESSES workers each.

# the name of a node need not resolve; SLURM knows where it is
address_of() { scontrol show node "$1" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p'; }

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 10000)) # one for each job, below those that the system gives away

exec "$PYTHON" -m torch.distributed.run \
  --nnodes="$SLURM_JOB_NUM_NODES" \
  --nproc-per-node="$PROCESSES" \
  --rdzv-backend=c10d \
  --rdzv-id="$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}" \
  --rdzv-endpoint="$(address_of "$first"):$port" \
  --rdzv-conf="is_host=$((SLURM_NODEID == 0))" \
  --local-addr="$(address_of "$SLURMD_NODENAME")" \
  "$@"
