# What train.sbatch and sweep.sbatch share; they source it in the folder of submission. It sets:
#
#   PYTHON           the interpreter: as given, else the checkout's .venv, else python
#   PROCESSES        training processes on each node: as given, else one per GPU of the node, else 1
#   OMP_NUM_THREADS  of each process: as given, else the node's cores divided among its processes
#
# and defines `run_step COMMAND…`.

if [ -z "${PYTHON:-}" ]; then
  PYTHON=python
  [ ! -x .venv/bin/python ] || PYTHON=.venv/bin/python
fi
export PYTHON

PROCESSES=${PROCESSES:-${SLURM_GPUS_ON_NODE:-1}}
[ "$PROCESSES" -ge 1 ] || PROCESSES=1
export PROCESSES

threads=$((SLURM_CPUS_ON_NODE / PROCESSES))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}

# srun does not take the number of cores over from sbatch by itself
[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

# torchrun kills workers that it told to stop after 30 s; a large checkpoint on a slow disk may take longer
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-100}

# Tells the training to save and stop, on all nodes. torchrun passes SIGTERM on, and the training handles it;
# USR1 itself would kill torchrun's agents. A TERM to srun makes it kill the tasks, so SLURM has to send it.
stop_training() {
  echo "SLURM will end this job soon: saving, to be requeued" >&2
  stopping=yes
  until scancel --signal=TERM "$SLURM_JOB_ID.0" || ! kill -0 "$step" 2>/dev/null; do sleep 1; done
}

# Runs srun with a command, as the job's only step, and ends the job with the step's exit code. Where SLURM announced
# by USR1 that the job's time is up or its place is wanted, a step that did not finish goes back into the queue: the
# same job runs the same command again and so finds the same run folder.
run_step() {
  stopping=""
  trap stop_training USR1
  # in the background: bash runs a trap only when the foreground command has ended
  srun --kill-on-bad-exit=1 "$@" &
  step=$!
  wait "$step"
  code=$?
  if [ -n "$stopping" ]; then # it was the signal that ended the waiting
    trap '' USR1
    wait "$step"
    code=$?
    [ "$code" -eq 0 ] || scontrol requeue "$SLURM_JOB_ID"
  fi
  exit "$code"
}
