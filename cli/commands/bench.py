"""Commands: bench step, infer, loss, loader. What is measured and how stands in `benchmarks/`."""

from typing import Annotated, Any

import typer

from segstream.benchmarks.timing import Measured
from segstream.cli.commands.options import Json, example
from segstream.cli.console import print_json, print_table, progress

Arch = Annotated[str, typer.Option(help="Architecture.")]
Classes = Annotated[int, typer.Option(min=1, max=255)]
Crop = Annotated[int, typer.Option(min=1, help="Side of the images, pixels.")]
Batch = Annotated[int, typer.Option(min=1)]
Precision = Annotated[str, typer.Option(help="Of ours: fp32, bf16, or auto: bf16 where the device multiplies it.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto.")]
Rounds = Annotated[int, typer.Option(min=1, help="Each runs everything once, in turns.")]
OnlyOurs = Annotated[bool, typer.Option("--only-ours", help="Leave out the plain one, e.g. where it does not fit.")]
Compile = Annotated[bool, typer.Option("--compile", help="Ours through torch.compile.")]
ShortSide = Annotated[int | None, typer.Option(min=1, help="With --image: shorter side.", show_default="native")]

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="Measure this machine, ours against plain, paired."
)


@app.command(epilog=example("bench step --arch hrnet-w48 --crop 713 --batch 16 --json"))
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
    _step("step", **locals())


@app.command(epilog=example("bench infer --arch hrnet-w48 --crop 473 --batch 1"))
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
    short_side: ShortSide = None,
    multi: Annotated[bool, typer.Option("--multi", help="With --image: six scales.")] = False,
    json: Json = False,
) -> None:
    """Images to the class of every pixel: a batch of crops against the same network in float32, or whole images."""
    sizes = {"classes": classes, "crop": crop, "batch": batch, "precision": precision, "device": device}
    if image is None:
        _step("infer", rounds=rounds, only_ours=only_ours, json=json, arch=arch, compile=compile, **sizes)
        return
    from segstream.benchmarks.infer import measure

    measured = measure(image, images, rounds, progress, short_side=short_side, multi=multi, arch=arch, **sizes)
    _print(measured, json=json)


@app.command(epilog=example("bench loss --crop 713 --batch 1"))
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
    _step("loss", **locals())


@app.command(epilog=example("bench loader --json"))
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
    from segstream.benchmarks.loader import measure

    _print(measure(setting, crops, batch, threads, rounds, progress, peers=peers, engine=engine), json=json)


def _step(task: str, *, rounds: int, only_ours: bool, json: bool, **config: Any) -> None:
    from segstream.benchmarks.step import BenchConfig, measure

    _print(measure(BenchConfig(task=task, **config), rounds, progress, only_ours=only_ours), json=json)


def _print(measured: Measured, *, json: bool) -> None:
    if json:
        print_json(measured.values)
        return
    for part in measured.text:
        typer.echo(part) if isinstance(part, str) else print_table(*part)
