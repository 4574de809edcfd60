"""Job scripts that start a training run on several machines: pure text, made from a checked description.

Nothing here starts processes or decides who does what: torchrun (torch elastic) does, and a scheduler starts it anew.
A run that was told to stop has saved its checkpoint and ends with exit code 75 (EX_TEMPFAIL); torchrun ends with 1
whatever its workers' codes were, so a worker that stops also leaves a file at `SEGSTREAM_STOPPED`, by which the script
around torchrun tells a run to go on with from one that failed.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from segstream.shards.errors import UsageError

EXIT_STOPPED = 75
"""EX_TEMPFAIL of sysexits.h: try again later."""
STOPPED = "SEGSTREAM_STOPPED"
"""Environment variable: path of the file that a worker makes which stopped with its checkpoint saved."""
MEET_S = 900  # machines may come up minutes apart
NAME = r"[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?"  # RFC 1123; a pod adds its index and a suffix of six to the job's name
WORD = r"[A-Za-z0-9][A-Za-z0-9._,/:@+=-]*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A training run and the processes that it is to have."""

    name: str
    """Of the job: small letters, digits and dashes."""
    train: tuple[str, ...]
    """Arguments of `segstream train`."""
    nodes: str = "1"
    """How many machines: `4`, or `2:4` for at least and at most (elastic)."""
    processes: int = 1
    """On each machine; one per GPU."""
    port: int = 29400
    """Of the rendezvous, on the first machine."""
    max_restarts: int = 3
    """How often torchrun starts the workers anew after one died, before it gives up."""
    grace_s: int = 120
    """Seconds that workers get to save their checkpoint when they are told to stop."""

    def __post_init__(self) -> None:
        check("--name", self.name, NAME, "small letters, digits and dashes, at most 42")
        if any(not word.isprintable() for word in self.train):
            raise UsageError(f"{shlex.join(self.train)!r}: holds characters that a job script cannot carry")
        check("--nodes", self.nodes, r"[1-9]\d*(:[1-9]\d*)?", "a number, or MIN:MAX")
        low, high = self.node_range
        if low > high:
            raise UsageError(f"--nodes: {self.nodes!r}; the least is above the most")
        for name, value, least, most in (
            ("--processes-per-node", self.processes, 1, 1024),
            ("--port", self.port, 1024, 65535),
            ("--max-restarts", self.max_restarts, 0, 10_000),
            ("--grace", self.grace_s, 10, 86_400),
        ):
            if not least <= value <= most:
                raise UsageError(f"{name}: {value}; must be from {least} to {most}")

    @property
    def node_range(self) -> tuple[int, int]:
        """The least and the most machines."""
        low, _, high = self.nodes.partition(":")
        return int(low), int(high or low)

    def torchrun(self, *, host: str, run_id: str, conf: str | None = None) -> str:
        """The command of each machine, as shell text; `host`, `run_id` and `conf` are shell words already.

        Args:
            host: of the first machine.
            conf: more about the rendezvous, `--rdzv-conf`.
        """
        options = (
            f"--nnodes={self.nodes} --nproc-per-node={self.processes} --max-restarts={self.max_restarts} "
            f"--rdzv-backend=c10d --rdzv-endpoint={host}:{self.port} --rdzv-id={run_id}"
        )
        more = "" if conf is None else f" --rdzv-conf={conf}"
        # Without `--`, torchrun takes our `--run` for a short form of its own `--run-path`.
        return f"torchrun {options}{more} --no-python -- segstream train {shlex.join(self.train)}"


def check(name: str, value: str, pattern: str, wanted: str) -> None:
    """Refuse a value that a job script cannot carry.

    Raises:
        UsageError: it does not match `pattern` as a whole.
    """
    if re.fullmatch(pattern, value) is None:
        raise UsageError(f"{name}: {value!r}; expected {wanted}")


def job_name(recipe: str) -> str:
    """A job's name for a recipe: `recipes/My_Run.yaml` -> `my-run`."""
    stem = recipe.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".yaml").removesuffix(".yml")
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:42].strip("-") or "segstream"


def torchrun_line(run: Run, host: str) -> str:
    """The line to type on every machine, `host` being the first of them."""
    check("--host", host, r"[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:]+\]", "a host name or address; IPv6 in brackets")
    return run.torchrun(host=host, run_id=run.name) + "\n"


def node_script(run: Run, *, host: str, run_id: str, index: str, forward: bool) -> str:
    """Shell text that runs torchrun on one machine and ends with its code, or with 75 where the run stopped.

    Args:
        host: of the first machine, `run_id` the name of the rendezvous, both shell words.
        index: shell word, the number of this machine; 0 is the host. torchrun would compare names and addresses, which
            fails where a machine has several, or where its name is not known yet.
        forward: pass TERM on to torchrun, as the first process of a container must; a SLURM step's processes are all
            told, and a second TERM would make torchrun drop the workers that it is waiting for.
    """
    on_term = 'kill -TERM "$child"' if forward else ":"
    conf = f'"is_host=$is_host,read_timeout={MEET_S},join_timeout={MEET_S}"'
    return f"""export TORCH_ELASTIC_SHUTDOWN_TIMEOUT={run.grace_s}
export {STOPPED}="${{TMPDIR:-/tmp}}/segstream-stopped-$RANDOM-$RANDOM"
if [ {index} = 0 ]; then is_host=1; else is_host=0; fi
told=
{run.torchrun(host=host, run_id=run_id, conf=conf)} &
child=$!
trap 'told=x$told; {on_term}' TERM
while :; do # a signal ends `wait` before the process has ended
  before=$told
  wait "$child"
  code=$?
  [ "$told" = "$before" ] && break
done
if [ "$code" -ne 0 ] && [ -e "${STOPPED}" ]; then code={EXIT_STOPPED}; fi
rm -f "${STOPPED}"
exit "$code"
"""
