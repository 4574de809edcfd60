"""Commands: launch slurm, kubernetes, torchrun. They write what starts a run on several machines, and start nothing."""

import re
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from segstream.cli.commands.options import example
from segstream.cli.console import note
from segstream.cli.jobs.scripts import TEMPLATES, Job, kubernetes_manifest, slurm_script
from segstream.shards.errors import UsageError
from segstream.shards.files import write_text
from segstream.shards.schema import read_yaml

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="Write the job script that trains a recipe on many machines."
)

_CHECKS = read_yaml(TEMPLATES / "options.yaml")
SHAPES: dict[str, tuple[str, str]] = _CHECKS["shapes"]
RANGES: dict[str, tuple[str, int, int]] = _CHECKS["ranges"]

Recipe = Annotated[str, typer.Argument(help="Name of a recipe, or a YAML file, as in `train`.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Passed on to `train`.")]
RunFolder = Annotated[Path | None, typer.Option("--run", help="Run folder, seen by all machines.")]
Nodes = Annotated[str, typer.Option(help="Machines; MIN:MAX: goes on with fewer when some are lost.")]
Gpus = Annotated[int, typer.Option(min=0, help="GPUs of each machine, one process each.")]
Processes = Annotated[
    int | None, typer.Option("--processes-per-node", min=1, help="Processes of each machine.", show_default="GPUs")
]
Name = Annotated[str | None, typer.Option(help="Of the job.", show_default="from the recipe's")]
Port = Annotated[int, typer.Option(help="Where the machines meet, on the first of them.")]
Restarts = Annotated[int, typer.Option("--max-restarts", help="New starts of the workers before torchrun gives up.")]
Grace = Annotated[int, typer.Option("--grace", help="Seconds to save a checkpoint when told to stop.")]
Out = Annotated[Path | None, typer.Option(help="Write to this file.", show_default="print")]


@app.command(epilog=example("launch slurm union-universal --nodes 2 --gpus-per-node 8 --time 24:00:00"))
def slurm(
    recipe: Recipe,
    overrides: Overrides = None,
    run: RunFolder = None,
    nodes: Nodes = "1",
    gpus_per_node: Gpus = 1,
    processes: Processes = None,
    cpus_per_node: Annotated[int | None, typer.Option(min=1, help="Cores of each machine.")] = None,
    time: Annotated[str | None, typer.Option(help="Limit, e.g. 24:00:00; then the job is queued again.")] = None,
    partition: Annotated[str | None, typer.Option(help="Of the cluster.")] = None,
    account: Annotated[str | None, typer.Option(help="Who pays.")] = None,
    log: Annotated[str, typer.Option(help="Where the job's output goes.")] = "%x-%j.log",
    name: Name = None,
    port: Port = 29400,
    max_restarts: Restarts = 3,
    grace: Grace = 120,
    out: Out = None,
) -> None:
    """A script for sbatch: torchrun on every node; queued again at the time limit and after a preemption."""
    per_node = processes or max(gpus_per_node, 1)
    shape = {"nodes": nodes, "processes": per_node, "port": port, "max_restarts": max_restarts}
    job = _job(recipe, overrides, run, name, **shape, grace_s=grace)
    asked = checked(time=time, partition=partition, account=account, log=log)
    _hand_over(slurm_script(job, gpus=gpus_per_node or None, cpus=cpus_per_node, **asked), out, "sbatch {}")


@app.command(epilog=example("launch kubernetes union-universal --image registry/segstream --nodes 2"))
def kubernetes(
    recipe: Recipe,
    image: Annotated[str, typer.Option(help="Container image with segstream in it.")],
    overrides: Overrides = None,
    run: RunFolder = None,
    nodes: Nodes = "1",
    gpus_per_node: Gpus = 1,
    processes: Processes = None,
    namespace: Annotated[str | None, typer.Option(help="Of the cluster.")] = None,
    claim: Annotated[str | None, typer.Option(help="PersistentVolumeClaim that holds the run folder.")] = None,
    mount: Annotated[str, typer.Option(help="Where the claim is mounted; also the working folder.")] = "/data",
    cpus: Annotated[str | None, typer.Option(help="Cores of a pod.")] = None,
    memory: Annotated[str | None, typer.Option(help="Memory of a pod, e.g. 64Gi.")] = None,
    shm: Annotated[str, typer.Option(help="Shared memory of a pod.")] = "16Gi",
    secret: Annotated[str | None, typer.Option(help="Secret with environment variables (of an object store).")] = None,
    backoff: Annotated[int, typer.Option(min=0, help="Failed pods before the job has failed.")] = 6,
    name: Name = None,
    port: Port = 29400,
    max_restarts: Restarts = 3,
    grace: Grace = 120,
    out: Out = None,
) -> None:
    """A manifest for kubectl: a headless Service and an Indexed Job whose pods go on after an eviction."""
    per_node = processes or max(gpus_per_node, 1)
    shape = {"nodes": nodes, "processes": per_node, "port": port, "max_restarts": max_restarts}
    job = _job(recipe, overrides, run, name, **shape, grace_s=grace)
    asked = checked(
        image=image, namespace=namespace, claim=claim, mount=mount, cpus=cpus, memory=memory, shm=shm, secret=secret
    )
    gpus = str(gpus_per_node) if gpus_per_node else None
    _hand_over(kubernetes_manifest(job, gpus=gpus, backoff=backoff, **asked), out, "kubectl apply -f {}")


@app.command(epilog=example("launch torchrun union-universal --host node1 --nodes 2 --gpus-per-node 8"))
def torchrun(
    recipe: Recipe,
    host: Annotated[str, typer.Option(help="Name or address of the first machine, as the others see it.")],
    overrides: Overrides = None,
    run: RunFolder = None,
    nodes: Nodes = "2",
    gpus_per_node: Gpus = 1,
    processes: Processes = None,
    name: Name = None,
    port: Port = 29400,
    max_restarts: Restarts = 3,
    out: Out = None,
) -> None:
    """The line to type on every machine."""
    per_node = processes or max(gpus_per_node, 1)
    shape = {"nodes": nodes, "processes": per_node, "port": port, "max_restarts": max_restarts}
    job = _job(recipe, overrides, run, name, **shape, grace_s=120)
    _hand_over(job.torchrun(**checked(host=host), run_id=job.name) + "\n", out, "on every machine: bash {}")


def _job(recipe: str, overrides: list[str] | None, run: Path | None, name: str | None, **given: Any) -> Job:
    """The run, its recipe and options checked now and not after hours in a queue."""
    from segstream.recipe import load_recipe

    batch = load_recipe(recipe, overrides or ()).loader.batch
    train = (recipe, *(overrides or ()), *(("--run", str(run)) if run is not None else ()))
    if any(not word.isprintable() for word in train):
        raise UsageError(f"{shlex.join(train)!r}: holds characters that a job script cannot carry")
    job = Job(train=train, name=job_name(recipe) if name is None else name, **given)
    checked(name=job.name, nodes=job.nodes)
    for field, (option, low, high) in RANGES.items():
        if not low <= getattr(job, field) <= high:
            raise UsageError(f"{option}: {getattr(job, field)}; must be from {low} to {high}")
    least, most = job.node_range
    if least > most:
        raise UsageError(f"--nodes: {job.nodes!r}; the least is above the most")
    if most * job.processes > batch:
        raise UsageError(f"{most * job.processes} processes, but a batch has {batch} crops (loader.batch); use fewer")
    return job


def checked(**values: str | None) -> dict[str, Any]:
    """The same values by option, if a job script can carry them.

    Raises:
        UsageError: one does not have the shape that it must have.
    """
    for option, value in values.items():
        pattern, wanted = SHAPES[option]
        if value is not None and re.fullmatch(pattern, value) is None:
            raise UsageError(f"--{option}: {value!r}; expected {wanted}")
    return values


def job_name(recipe: str) -> str:
    """A job's name for a recipe: `recipes/My_Run.yaml` -> `my-run`."""
    stem = recipe.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".yaml").removesuffix(".yml")
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:42].strip("-") or "segstream"


def _hand_over(text: str, out: Path | None, usage: str) -> None:
    if out is None:
        typer.echo(text, nl=False)
        return
    write_text(out, text)
    note(f"written; {usage.format(out)}")
