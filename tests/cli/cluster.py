"""A cluster of one machine: `scontrol`, `srun` and `scancel` that do on this machine what SLURM does on its nodes."""

import os
import sys
from pathlib import Path

COMMANDS = {
    "segstream": f'#!/bin/sh\nexec "{sys.executable}" -m segstream.cli.main "$@"\n',
    "torchrun": f'#!/bin/sh\nexec "{sys.executable}" -m torch.distributed.run "$@"\n',
    "scontrol": """#!/bin/sh
case "$1 $2" in
  "show hostnames") echo "$3" ;;
  *) echo "$@" >> "$CLUSTER/asked" ;;
esac
""",
    # One task on the only node; what belongs to the step is known by its environment.
    "srun": """#!/bin/sh
while [ "${1#--}" != "$1" ]; do shift; done
SLURM_NODEID=0 CLUSTER_STEP=yes exec "$@"
""",
    # The signal goes to every process of the job's steps, as SLURM sends it.
    "scancel": f"""#!{sys.executable}
import os, pathlib, signal, sys
assert sys.argv[1:] == ["--signal=TERM", os.environ["SLURM_JOB_ID"]], sys.argv
mark = b"CLUSTER=" + os.environ["CLUSTER"].encode()
for entry in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        environment = (entry / "environ").read_bytes().split(b"\\0")
        if mark in environment and b"CLUSTER_STEP=yes" in environment:
            os.kill(int(entry.name), signal.SIGTERM)
    except OSError:
        pass
""",
}


def cluster(folder: Path) -> dict[str, str]:
    """The environment in which a job script finds these commands; `folder/asked` holds what scontrol was asked for."""
    binaries = folder / "bin"
    binaries.mkdir(parents=True)
    for name, text in COMMANDS.items():
        (binaries / name).write_text(text)
        (binaries / name).chmod(0o755)
    job = {"CLUSTER": str(folder), "SLURM_JOB_ID": "42", "SLURM_JOB_NODELIST": "127.0.0.1"}
    return os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}"} | job
