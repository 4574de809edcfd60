"""A script for SLURM's `sbatch`."""

from __future__ import annotations

from dataclasses import dataclass

from segstream.cli.jobs.scripts import EXIT_STOPPED, WORD, Run, check, node_script

TIME = r"\d+(:\d\d(:\d\d)?)?|\d+-\d+(:\d\d(:\d\d)?)?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slurm:
    """What a SLURM job asks for."""

    gpus: int
    """On each machine; 0: none."""
    time: str | None = None
    """Limit as sbatch writes it, e.g. `24:00:00` or `2-12`."""
    partition: str | None = None
    account: str | None = None
    cpus: int | None = None
    """Cores on each machine."""
    log: str = "%x-%j.log"

    def __post_init__(self) -> None:
        check("--gpus-per-node", str(self.gpus), r"\d+", "0 or above")
        for name, value, pattern, wanted in (
            ("--time", self.time, TIME, "MINUTES, HH:MM:SS or DAYS-HH"),
            ("--partition", self.partition, WORD, "one word"),
            ("--account", self.account, WORD, "one word"),
            ("--log", self.log, r"[A-Za-z0-9%._/-]+", "a path without blanks"),
        ):
            if value is not None:
                check(name, value, pattern, wanted)


def slurm_script(run: Run, slurm: Slurm) -> str:
    """A script for `sbatch`: one torchrun per machine, requeued when it stops before its end."""
    low, high = run.node_range
    asked: dict[str, str | None] = {
        "job-name": run.name,
        "nodes": str(low) if low == high else f"{low}-{high}",
        "ntasks-per-node": "1",
        "gpus-per-node": str(slurm.gpus) if slurm.gpus else None,
        "cpus-per-task": None if slurm.cpus is None else str(slurm.cpus),
        "time": slurm.time,
        "partition": slurm.partition,
        "account": slurm.account,
        "output": slurm.log,
        "open-mode": "append",
        "signal": f"B:USR1@{run.grace_s + 60}",
    }
    head = "".join(f"#SBATCH --{name}={value}\n" for name, value in asked.items() if value is not None)
    node = node_script(run, host='"$MASTER"', run_id='"$SLURM_JOB_ID"', index='"$SLURM_NODEID"', forward=False)
    return f"""#!/usr/bin/env bash
{head}#SBATCH --requeue
set -u

# The node that runs this script is the first of the job: the others meet there.
MASTER=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER

# What each node runs. Exit code {EXIT_STOPPED}: stopped with the checkpoint saved.
node=$(cat <<'NODE'
{node}NODE
)

# SLURM sends USR1 before the time limit, TERM before a preemption. Steps get TERM by scancel: srun would kill them.
told=
trap 'told=x$told; scancel --signal=TERM "$SLURM_JOB_ID"' USR1 TERM
srun --kill-on-bad-exit=0 --wait={run.grace_s + 60} bash -c "$node" &
step=$!
while :; do # a signal ends `wait` before the step has ended
  before=$told
  wait "$step"
  code=$?
  [ "$told" = "$before" ] && break
done

if [ "$code" -eq {EXIT_STOPPED} ] || {{ [ -n "$told" ] && [ "$code" -ne 0 ]; }}; then
  echo "stopped before its end (exit code $code): requeued, goes on from the last checkpoint"
  scontrol requeue "$SLURM_JOB_ID" && exit 0
fi
exit "$code"
"""
