"""Job scripts that start a training run on several machines: text, made from `templates/` and checked values.

Nothing here starts processes or decides who does what: torchrun (torch elastic) does, and a scheduler starts it anew.
A run that was told to stop has saved its checkpoint and ends with exit code 75 (EX_TEMPFAIL); torchrun ends with 1
whatever its workers' codes were, so a worker that stops also leaves a file at `SEGSTREAM_STOPPED`, by which the script
around torchrun tells a run to go on with from one that failed.
"""

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

EXIT_STOPPED = 75
"""That of `Stopped`, which cannot be asked: it lies with torch."""
STOPPED = "SEGSTREAM_STOPPED"
"""Environment variable: path of the file that a worker makes which stopped with its checkpoint saved."""
OWN_RUN = "segstream"
"""What `cli.jobs.torchrun` starts has this as `TORCHELASTIC_RUN_ID`; it speaks for them."""
MEET_S = 900  # machines may come up minutes apart
TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A training run and the processes that it is to have."""

    name: str
    """Small letters, digits and dashes."""
    train: tuple[str, ...]
    """Arguments of `segstream train`."""
    nodes: str
    """How many machines: `4`, or `2:4` for at least and at most (elastic)."""
    processes: int
    """On each machine; one per GPU."""
    port: int
    """Of the rendezvous, on the first machine."""
    max_restarts: int
    """How often torchrun starts the workers anew after one died, before it gives up."""
    grace_s: int
    """Seconds that workers get to save their checkpoint when they are told to stop."""

    @property
    def node_range(self) -> tuple[int, int]:
        """The least and the most machines."""
        low, _, high = self.nodes.partition(":")
        return int(low), int(high or low)

    def torchrun(self, *, host: str, run_id: str, conf: str = "") -> str:
        """The command of each machine, as shell text; `host`, `run_id` and `conf` are shell words already.

        Args:
            host: of the first machine.
            conf: more about the rendezvous, ` --rdzv-conf=...`.
        """
        # Without `--`, torchrun takes our `--run` for a short form of its own `--run-path`.
        return (
            f"torchrun --nnodes={self.nodes} --nproc-per-node={self.processes} --max-restarts={self.max_restarts} "
            f"--rdzv-backend=c10d --rdzv-endpoint={host}:{self.port} --rdzv-id={run_id}{conf} "
            f"--no-python -- segstream train {shlex.join(self.train)}"
        )

    def node_script(self, *, host: str, run_id: str, index: str, forward: bool) -> str:
        """Shell text that runs torchrun on one machine and ends with its code, or with 75 where the run stopped.

        Args:
            host: of the first machine, `run_id` the name of the rendezvous, both shell words.
            index: shell word, the number of this machine; 0 is the host. torchrun would compare names and addresses,
                which fails where a machine has several, or where its name is not known yet.
            forward: pass TERM on to torchrun, as the first process of a container must; a SLURM step's processes are
                all told, and a second TERM would make torchrun drop the workers that it is waiting for.
        """
        conf = f' --rdzv-conf="is_host=$is_host,read_timeout={MEET_S},join_timeout={MEET_S}"'
        return fill(
            "node.sh",
            grace=self.grace_s,
            index=index,
            torchrun=self.torchrun(host=host, run_id=run_id, conf=conf),
            on_term='kill -TERM "$child"' if forward else ":",
            stopped=EXIT_STOPPED,
        )


def slurm_script(job: Job, **asked: object) -> str:
    """A script for `sbatch`: one torchrun per machine, requeued when it stops before its end.

    Args:
        asked: gpus and cpus of a machine, time, partition, account, log; None: nothing is asked for.
    """
    low, high = job.node_range
    node = job.node_script(host='"$MASTER"', run_id='"$SLURM_JOB_ID"', index='"$SLURM_NODEID"', forward=False)
    nodes = low if low == high else f"{low}-{high}"
    given = {"name": job.name, "nodes": nodes, "notice": job.grace_s + 60, "node": node.removesuffix("\n")}
    return fill("slurm.sh", stopped=EXIT_STOPPED, **given, **asked)


def kubernetes_manifest(job: Job, **asked: object) -> str:
    """A headless Service and an Indexed Job, as two YAML documents: one pod per machine.

    Args:
        asked: image, gpus, cpus, memory and shm of a pod, namespace, claim and where to mount it, secret, backoff;
            None: nothing is asked for.
    """
    if asked["claim"] is None:
        asked["mount"] = None
    script = job.node_script(
        host=f"{job.name}-0.{job.name}", run_id=job.name, index='"$JOB_COMPLETION_INDEX"', forward=True
    )
    literal = re.sub(r"\$(?=[$(])", "$$", script)  # Kubernetes replaces `$(NAME)` and `$$` in a container's command
    given = {"name": job.name, "port": job.port, "nodes": job.node_range[1], "notice": job.grace_s + 30}
    values = given | {"script": literal, "stopped": EXIT_STOPPED} | asked
    words = {key: None if value is None else json.dumps(value, ensure_ascii=False) for key, value in values.items()}
    # Read and written: what is optional leaves no trace.
    documents = yaml.safe_load_all(fill("kubernetes.yaml", **words))
    text: str = yaml.dump_all(documents, Dumper=_Readable, sort_keys=False, width=1000)
    return text


def fill(template: str, **values: object) -> str:
    """A template with every `{{name}}` replaced by its value; a line that names an absent one (None) is left out."""
    place = re.compile(r"\{\{(\w+)\}\}")
    lines = (TEMPLATES / template).read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if all(values[name] is not None for name in place.findall(line))]
    return place.sub(lambda found: str(values[found[1]]), "".join(kept))


class _Readable(yaml.SafeDumper):
    """Scripts as blocks of lines, and nothing by reference."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _as_block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Readable.add_representer(str, _as_block)
