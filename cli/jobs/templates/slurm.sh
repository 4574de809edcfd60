#!/usr/bin/env bash
#SBATCH --job-name={{name}}
#SBATCH --nodes={{nodes}}
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node={{gpus}}
#SBATCH --cpus-per-task={{cpus}}
#SBATCH --time={{time}}
#SBATCH --partition={{partition}}
#SBATCH --account={{account}}
#SBATCH --output={{log}}
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@{{notice}}
#SBATCH --requeue
set -u

# The node that runs this script is the first of the job: the others meet there.
MASTER=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER

# What each node runs. Exit code {{stopped}}: stopped with the checkpoint saved.
node=$(cat <<'NODE'
{{node}}
NODE
)

# SLURM sends USR1 before the time limit, TERM before a preemption. Steps get TERM by scancel: srun would kill them.
told=
trap 'told=x$told; scancel --signal=TERM "$SLURM_JOB_ID"' USR1 TERM
srun --kill-on-bad-exit=0 --wait={{notice}} bash -c "$node" &
step=$!
while :; do # a signal ends `wait` before the step has ended
  before=$told
  wait "$step"
  code=$?
  [ "$told" = "$before" ] && break
done

if [ "$code" -eq {{stopped}} ] || { [ -n "$told" ] && [ "$code" -ne 0 ]; }; then
  echo "stopped before its end (exit code $code): requeued, goes on from the last checkpoint"
  scontrol requeue "$SLURM_JOB_ID" && exit 0
fi
exit "$code"
