"""The `segstream` command: parse, call, print, exit code. Each command's body lives beside its peers."""

import io
import os
import signal
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

import segstream
from segstream.cli.commands.options import example
from segstream.cli.console import note
from segstream.cli.jobs.scripts import OWN_RUN
from segstream.shards.errors import DataError, UsageError, brief, public
from segstream.shards.schema import read_yaml

INTERRUPTED = 130
"""Exit code, as a shell says it of a command that Ctrl-C ended."""
RESUMED = frozenset({"datasets", "ensemble", "eval", "predict", "shard", "train"})
GOES_ON = "; the same command goes on where it stopped"


class _Commands(typer.core.TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        """Run the command; Ctrl-C ends it with a line that says what to do."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            if os.environ.get("RANK", "0") == "0" and os.environ.get("TORCHELASTIC_RUN_ID") != OWN_RUN:
                note("interrupted" + GOES_ON * (ctx.invoked_subcommand in RESUMED))  # one says it for all
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    name="segstream",
    cls=_Commands,
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
        run_checkout(Path.cwd())


def run_checkout(folder: Path) -> None:
    """A stage of our pipeline runs the code of the checkout that it stands in: its dependencies are these files.

    Where another segstream is installed, this process becomes one that runs the checkout's.

    Raises:
        UsageError: it cannot.
    """
    for parent in (folder, *folder.parents):
        if (parent / "dvc.yaml").is_file() and (parent / "segstream" / "__init__.py").is_file():
            ours, path = Path(segstream.__file__).resolve().parent, os.environ.get("PYTHONPATH", "")
            if ours == (parent / "segstream").resolve():
                return
            if path.split(os.pathsep)[0] == str(parent):
                raise UsageError(f"{parent}: its stages would run the code of {ours}; pip install -e {parent}")
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(parent), path)))
            os.execv(sys.executable, [sys.executable, "-P", "-m", "segstream.cli.main", *sys.argv[1:]])


EXAMPLES: dict[str, str] = read_yaml(Path(__file__).parent / "commands" / "examples.yaml")
for _name, _example in EXAMPLES.items():  # command NAME is the function NAME, or the app, of commands/NAME.py
    _module = import_module(f"segstream.cli.commands.{_name}")
    _epilog = example(f"{_name} {_example}")
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
        _prepare_process()
        app()
    except Exception as error:
        if debug:
            raise
        if isinstance(error, DataError):
            text = str(error)
        elif isinstance(error, OSError):  # who knows more about the file says it in a DataError
            where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
            text = f"{where}{error.strerror or error} (told by the system; --debug shows where)"
        elif isinstance(error, UnicodeEncodeError):
            text = f"{error.object!r:.300} is not UTF-8; the library that is to open it takes no other names, rename it"
        else:
            text = f"{type(error).__name__}: {error}".splitlines()[0]
            text += " (unexpected; run again with --debug and report what it shows)"
        note(f"error: {brief(public(text))}")
        sys.exit(getattr(error, "exit_code", 1))


def _prepare_process() -> None:
    """What is the same for all commands: streams, Ctrl-C, and where processes that they start look for modules."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:  # closed; the next file that is opened would get its number, and its output
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            setattr(sys, name, open(number, mode))  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names that are not UTF-8 are printed as they are
        utf8 = sys.stdout.encoding.lower() == "utf-8"
        sys.stdout.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _thread_ended
    if Path.cwd() != Path(segstream.__file__).parents[1]:  # a random.py in the working folder is not ours
        os.environ.setdefault("PYTHONSAFEPATH", "1")


def _thread_ended(ended: threading.ExceptHookArgs) -> None:
    """Refusals of the system are told by whoever waits for the thread, as TensorBoard's does of its own."""
    if not isinstance(ended.exc_value, OSError):
        threading.__excepthook__(ended)


def _interrupt(number: int, frame: object) -> None:
    """The first Ctrl-C ends a command in order, the second at once: files are whole or not there at any time."""
    signal.signal(number, _leave)
    raise KeyboardInterrupt


def _leave(number: int, frame: object) -> None:
    if os.isatty(2):
        os.write(2, b"\x1b[?25h\n")  # a progress bar has hidden the cursor
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    run()
