"""The `segstream` command: parse, call, print, exit code. Each command's body lives beside its peers."""

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

import segstream
from segstream.cli.console import note
from segstream.shards.errors import DataError, UsageError
from segstream.shards.schema import read_yaml

app = typer.Typer(
    name="segstream",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: [bold]segstream shard ade20k-150 --raw /data/ADEChallengeData2016 --out data/shards[/]",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"segstream {segstream.__version__}")
        raise typer.Exit


@app.callback()
def main(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Train and evaluate semantic-segmentation models on composites of many datasets.

    Releases become shards once (shard), shards stream into training (train), models are evaluated on datasets
    they have never seen (eval), and tables and pages say what came out (results, report).
    """
    if "DVC_STAGE" in os.environ:
        check_checkout(Path.cwd())


def check_checkout(folder: Path) -> None:
    """A stage of our pipeline runs the code of the checkout that it stands in: its dependencies are these files.

    Raises:
        UsageError: another segstream is installed.
    """
    for parent in (folder, *folder.parents):
        if (parent / "dvc.yaml").is_file() and (parent / "segstream" / "__init__.py").is_file():
            ours = Path(segstream.__file__).resolve().parent
            if ours != (parent / "segstream").resolve():
                raise UsageError(
                    f"{parent}: a stage of this checkout would run the code of {ours}; "
                    f"pip install -e {parent}, or set PYTHONPATH={parent}"
                )
            return


EXAMPLES: dict[str, str] = read_yaml(Path(__file__).parent / "commands" / "examples.yaml")
for _name, _example in EXAMPLES.items():  # command NAME is the function NAME, or the app, of commands/NAME.py
    _module = import_module(f"segstream.cli.commands.{_name}")
    _epilog = f"Example: [bold]segstream {_name} {_example}[/]"
    if hasattr(_module, "app"):
        app.add_typer(_module.app, name=_name, epilog=_epilog)
    else:
        app.command(_name, epilog=_epilog)(getattr(_module, _name))


def run() -> None:
    """Entry point: errors that a user can mend are one line; exit code 1 (failed) or 2 (bad use)."""
    # Before torch is loaded: threads that wait in a loop for the next layer starve the ones that make batches, and
    # threads that sleep at once wake too late for small layers. This many turns are some tens of microseconds.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    debug = "--debug" in sys.argv[1:]
    if debug:  # wherever it stands: nobody remembers that it belongs before the command
        sys.argv = [sys.argv[0], "--debug", *(a for a in sys.argv[1:] if a != "--debug")]
    try:
        app()
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on where it stopped", err=True)
        sys.exit(130)
    except DataError as error:
        if debug:
            raise
        note(f"error: {error}")
        sys.exit(error.exit_code)
    except Exception as error:
        if debug:
            raise
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        note(f"error: {text} (unexpected; run again with --debug and report what it shows)")
        sys.exit(1)


if __name__ == "__main__":
    run()
