"""Commands: bench step, infer, loss, loader. Everything that is compared runs in turns in one process."""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

import typer

from segstream.benchmarks.timing import interleaved, ratio
from segstream.cli.console import print_json, print_table, progress
from segstream.shards.errors import UsageError

if TYPE_CHECKING:
    from segstream.benchmarks.loaders import Setting
    from segstream.benchmarks.step import BenchConfig, Task
    from segstream.pipeline.config import EngineName

COLUMNS = {"images_per_s": "images/s", "ms": "ms", "peak_mib": "peak MiB", "tflop_per_s": "TFLOP/s"}
_RATES = {
    "ours": "ours",
    "reference_rule": "rule",
    "decode_only": "decoding (OpenCV)",
    "decode_fast": "decoding (ours)",
}
_RATIOS = {"reference_rule": "ratio_reference", "decode_only": "ratio_decode", "decode_fast": "ratio_decode_fast"}
WARM_UP = 2  # rounds: the first compiles kernels and grows memory, the second is the first of its kind without

Arch = Annotated[str, typer.Option(help="Architecture.")]
Classes = Annotated[int, typer.Option(min=1, max=255)]
Crop = Annotated[int, typer.Option(min=1, help="Side of the images, pixels.")]
Batch = Annotated[int, typer.Option(min=1)]
Precision = Annotated[str, typer.Option(help="Of ours: fp32, bf16, or auto: bf16 where the device multiplies it.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto.")]
Rounds = Annotated[int, typer.Option(min=1, help="Each runs everything once, in turns.")]
OnlyOurs = Annotated[bool, typer.Option("--only-ours", help="Leave out the plain one, e.g. where it does not fit.")]
Compile = Annotated[bool, typer.Option("--compile", help="Ours through torch.compile.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="Measure this machine, ours against plain, paired."
)


@app.command(epilog="Example: [bold]segstream bench step --arch hrnet-w48 --crop 713 --batch 16 --json[/]")
def step(
    arch: Arch = "hrnet-tiny",
    classes: Classes = 194,
    crop: Crop = 113,
    batch: Batch = 8,
    precision: Precision = "auto",
    device: Device = "auto",
    rounds: Rounds = 15,
    only_ours: OnlyOurs = False,
    compile: Compile = False,
    checkpointing: Annotated[bool, typer.Option("--checkpointing", help="Ours computes activations again.")] = False,
    json: Json = False,
) -> None:
    """A training step against the same network in float32 with upsampled logits and cross_entropy."""
    config = _config("step", arch, classes, crop, batch, precision, device, compile, checkpointing)
    _network(config, rounds, only_ours=only_ours, json=json)


@app.command(epilog="Example: [bold]segstream bench infer --arch hrnet-w48 --crop 473 --batch 1[/]")
def infer(
    arch: Arch = "hrnet-tiny",
    classes: Classes = 194,
    crop: Crop = 113,
    batch: Batch = 8,
    precision: Precision = "auto",
    device: Device = "auto",
    rounds: Rounds = 15,
    only_ours: OnlyOurs = False,
    compile: Compile = False,
    image: Annotated[
        str | None, typer.Option(help="HEIGHTxWIDTH: time whole images through the whole procedure, in float32.")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="With --image: how many in a round.")] = 4,
    short_side: Annotated[
        int | None, typer.Option(min=1, help="With --image: shorter side.", show_default="native")
    ] = None,
    multi: Annotated[bool, typer.Option("--multi", help="With --image: six scales.")] = False,
    json: Json = False,
) -> None:
    """Images to the class of every pixel: a batch of crops against the same network in float32, or whole images."""
    config = _config("infer", arch, classes, crop, batch, precision, device, compile)
    if image is None:
        _network(config, rounds, only_ours=only_ours, json=json)
        return
    import torch

    from segstream.benchmarks.procedure import measure, say, size_of

    machine = _machine(torch.get_num_threads())
    result = measure(
        machine, arch=arch, classes=classes, size_hw=size_of(image), images=images, short_side=short_side, crop=crop,
        multi=multi, batch=batch, device=config.device, rounds=rounds,
    )  # fmt: skip
    say(result, json=json)


@app.command(epilog="Example: [bold]segstream bench loss --crop 713 --batch 1[/]")
def loss(
    classes: Classes = 194,
    crop: Crop = 473,
    batch: Batch = 2,
    precision: Precision = "fp32",
    device: Device = "auto",
    rounds: Rounds = 15,
    only_ours: OnlyOurs = False,
    json: Json = False,
) -> None:
    """The loss from logits at a quarter of the resolution, and its gradient, against upsampling and cross_entropy."""
    _network(_config("loss", "none", classes, crop, batch, precision, device), rounds, only_ours=only_ours, json=json)


@app.command(epilog="Example: [bold]segstream bench loader --json[/]")
def loader(
    setting: Annotated[list[str] | None, typer.Option(help="480-473, 1080-713, city-713.", show_default="all")] = None,
    crops: Annotated[int, typer.Option(min=1, help="Made by each in a round.")] = 16,
    batch: Batch = 4,
    threads: Annotated[int, typer.Option(min=0, help="Of the loader and of decoding; 0: all cores.")] = 0,
    rounds: Rounds = 5,
    peers: Annotated[bool, typer.Option("--peers", help="Also other loaders with that rule (extra `bench`).")] = False,
    engine: Annotated[str, typer.Option(help="Of the loader: opencv, dali, auto.")] = "opencv",
    json: Json = False,
) -> None:
    """Crops per second: the loader, the rule step by step in a DataLoader of 2 workers, decoding alone.

    Decoding is that of whole pictures, by OpenCV as in the rule, and by the loader's faster decoder.
    """
    from segstream.benchmarks.loaders import SETTINGS
    from segstream.pipeline.config import EngineName

    if engine not in get_args(EngineName):
        raise UsageError(f"--engine {engine!r}: choose among {', '.join(get_args(EngineName))}")
    known = {s.name: s for s in SETTINGS}
    if unknown := [name for name in setting or () if name not in known]:
        raise UsageError(f"--setting {unknown[0]!r}: choose among {', '.join(known)}")
    if crops % batch:
        raise UsageError(f"--crops {crops} is no multiple of --batch {batch}")
    chosen = [known[name] for name in setting or known]
    threads = threads or os.cpu_count() or 1
    rows = [_setting(s, crops, batch, threads, rounds, peers=peers, engine=cast(EngineName, engine)) for s in chosen]
    if json:
        about = {"machine": _machine(threads), "crops": crops, "batch": batch, "rounds": rounds}
        print_json(about | {"settings": rows})
        return
    typer.echo(f"{_machine(threads)}; crops/s, medians of {rounds} rounds")
    header = (
        "setting",
        *_RATES.values(),
        *(f"ours / {_RATES[name]}" for name in _RATIOS),
        "images apart",
        "labels equal",
    )
    print_table(header, [_loader_cells(row) for row in rows])
    for row in rows:
        memory = "" if row["gpu_mib"] is None else f", {row['gpu_mib']} MiB of GPU memory"
        typer.echo(
            f"{row['name']}: {row['engine']}; {row['engine_difference']:.2f} of 255 from OpenCV; with steps of 20 ms "
            f"{row['wait_share']:.0%} of the time is waiting{memory}"
        )
    if peers:
        typer.echo("other loaders with the same rule, two workers each")
        print_table(
            ("setting", "loader", "crops/s", "ours / it"), [cells for row in rows for cells in _peer_cells(row)]
        )


def _setting(
    setting: Setting, crops: int, batch: int, threads: int, rounds: int, *, peers: bool, engine: EngineName
) -> dict[str, Any]:
    from segstream.benchmarks.loaders import prepare

    free_before = _free_bytes()
    with (
        tempfile.TemporaryDirectory(prefix="segstream-bench-") as folder,
        progress(f"bench {setting.name}", "rounds") as report,
        prepare(setting, Path(folder), crops=crops, batch=batch, threads=threads, peers=peers, engine=engine) as case,
    ):
        took = interleaved(case.runs, rounds, report=report)
        wait_share, gpu_mib = case.wait_share(), _gpu_mib(free_before)
    row: dict[str, Any] = {"name": setting.name}
    rates = {name: round(crops / statistics.median(times), 2) for name, times in took.items()}
    row |= {name: rates.pop(name) for name in _RATES}
    row |= {key: round(ratio(took[name], took["ours"]), 2) for name, key in _RATIOS.items()}
    row["image_difference"] = round(case.image_difference, 2)
    row["label_agreement"] = round(case.label_agreement, 4)
    row |= {"engine": case.engine, "engine_difference": round(case.engine_difference, 2)}
    row |= {"wait_share": round(wait_share, 3), "gpu_mib": gpu_mib}
    if peers:
        row["peers"] = {
            name: {"crops_per_s": rate, "ratio": round(ratio(took[name], took["ours"]), 2)}
            for name, rate in rates.items()
        } | {name: {"error": reason} for name, reason in case.missing.items()}
    return row


def _free_bytes() -> int:
    import torch

    return torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0


def _gpu_mib(free_before: int) -> int | None:
    """What the device has less of: DALI's memory is not torch's."""
    return round((free_before - _free_bytes()) / 2**20) if free_before else None


def _loader_cells(row: dict[str, Any]) -> tuple[Any, ...]:
    rates = (f"{row[name]:.1f}" for name in _RATES)
    ratios = (f"{row[key]:.2f}x" for key in _RATIOS.values())
    checks = (f"{row['image_difference']:.2f} of 255", f"{row['label_agreement']:.1%}")
    return (row["name"], *rates, *ratios, *checks)


def _peer_cells(row: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (row["name"], name, f"not run: {found['error']}", "-")
        if "error" in found
        else (row["name"], name, f"{found['crops_per_s']:.1f}", f"{found['ratio']:.1f}x")
        for name, found in row["peers"].items()
    ]


def _config(
    task: Task,
    arch: str,
    classes: int,
    crop: int,
    batch: int,
    precision: str,
    device: str,
    compile: bool = False,
    checkpointing: bool = False,
) -> BenchConfig:
    from segstream.benchmarks.step import BenchConfig

    for option, value, choices in (
        ("--precision", precision, ("fp32", "bf16", "auto")),
        ("--device", device, ("cpu", "cuda", "auto")),
    ):
        if value not in choices:
            raise UsageError(f"{option} {value!r}: choose among {', '.join(choices)}")
    return BenchConfig(
        task=task,
        arch=arch,
        classes=classes,
        crop=crop,
        batch=batch,
        precision=cast(Literal["fp32", "bf16", "auto"], precision),
        device=cast(Literal["cpu", "cuda", "auto"], device),
        compile=compile,
        checkpointing=checkpointing,
    )


def _network(config: BenchConfig, rounds: int, *, only_ours: bool, json: bool) -> None:
    from segstream.benchmarks import step as bench

    variants: tuple[bench.Variant, ...] = ("ours",) if only_ours else ("ours", "plain")
    peaks = {name: bench.peak_mib(config, name) for name in variants}  # first: it says what does not fit
    works = {name: bench.prepare(config, name) for name in variants}
    if not only_ours:
        bench.check_equal(config, works["ours"], works["plain"])
    runs: dict[str, Callable[[], None]] = {name: work.run for name, work in works.items()}
    flop = bench.count_flop(config)
    if flop:  # what the device can do at best, in the same run
        runs["matmul"], matmul_flop = bench.prepare_matmul(config)
    with progress(f"bench {config.task}", "rounds") as report:
        took = interleaved(runs, rounds, warm_up=WARM_UP, report=report)
    result = _about(config, rounds)
    for name in variants:
        result[name] = _figures(config.batch, took[name], peaks[name], flop)
    if flop:
        result["gflop"] = round(flop / 1e9, 1)
        result["matmul_tflop_per_s"] = round(matmul_flop / statistics.median(took["matmul"]) / 1e12, 3)
    if not only_ours:
        result["ratio_time"] = round(ratio(took["plain"], took["ours"]), 2)
        plain, ours = peaks["plain"], peaks["ours"]
        result["ratio_peak"] = round(plain / ours, 2) if plain and ours else None
    if json:
        print_json(result)
    else:
        _print_network(result, variants)


def _about(config: BenchConfig, rounds: int) -> dict[str, Any]:
    import torch

    from segstream.model.device import pick_device, pick_precision

    device = pick_device(config.device)
    about: dict[str, Any] = {"task": config.task, "machine": _machine(torch.get_num_threads(), device.type)}
    about |= {"arch": config.arch} if config.task != "loss" else {}
    about |= {"classes": config.classes, "crop": config.crop, "batch": config.batch, "rounds": rounds}
    about |= {"precision": pick_precision(config.precision, device), "compile": config.compile}
    return about | {"checkpointing": config.checkpointing}


def _figures(batch: int, took_s: Sequence[float], peak_mib: float | None, flop: int) -> dict[str, Any]:
    seconds = statistics.median(took_s)
    figures: dict[str, Any] = {"ms": round(1e3 * seconds, 3), "images_per_s": round(batch / seconds, 2)}
    figures["peak_mib"] = None if peak_mib is None else round(peak_mib)
    return figures | ({"tflop_per_s": round(flop / seconds / 1e12, 3)} if flop else {})


def _print_network(result: dict[str, Any], variants: Sequence[str]) -> None:
    what = f"{result['task']} {result.get('arch', '')}".strip()
    size = f"{result['classes']} classes, crop {result['crop']}, batch {result['batch']}"
    typer.echo(f"{what}, {size}, ours in {result['precision']}; {result['machine']}")
    rows = [(name, *(result[name].get(key, "-") for key in COLUMNS)) for name in variants]
    print_table(("", *COLUMNS.values()), rows)
    if "matmul_tflop_per_s" in result:
        typer.echo(f"a matrix product in {result['precision']}: {result['matmul_tflop_per_s']} TFLOP/s")
    if "ratio_time" in result:
        times = f"time {result['ratio_time']}x, memory {result['ratio_peak']}x"
        typer.echo(f"plain / ours: {times} (medians of {result['rounds']} rounds)")


def _machine(threads: int, device: str = "cpu") -> str:
    import torch

    chip = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    return f"{chip}, threads: {threads}, cores: {os.cpu_count()}, torch {torch.__version__}"
