"""Files of a run: the latest few checkpoints, from which it goes on, and `final.pt`, what it was for.

RUN/checkpoints/step-00000200.pt, step-00000400.pt, RUN/final.pt; RUN/best.pt is a `final.pt` of the step that validated
best, if the recipe asks for it, with its `score` in `meta`

All are torch archives that plain `torch.load(weights_only=True)` reads. They are written beside their place, flushed
to the disk and renamed, so a killed run leaves the former file or the new one, never a part.
"""

import json
import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import IO, Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor

from segstream.model.weights_file import check_values, one_line, read_weights_file
from segstream.shards.errors import DataError, first_few
from segstream.shards.files import PART, break_links, lock, writing

FORMAT = "segstream-checkpoint"
VERSIONS = {"progress": 2, "final": 1}
KINDS = {"step": int, "average": dict | None, "skipped": tuple}  # of fields that are no dicts


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A run between two steps."""

    kind: ClassVar[str] = "progress"
    identity: dict[str, Any]
    """What makes it this run: a JSON-able mapping; see `check_same`."""
    step: int
    """Updates made so far, which is also the number of the next step."""
    weights: dict[str, Tensor]
    """The network's state, buffers included; with several processes those of rank 0."""
    optimizer: dict[str, Any]
    """The optimizer's state."""
    average: dict[str, Tensor] | None = None
    """Averaged weights, of a run that has them."""
    scaler: dict[str, Any] = field(default_factory=dict)
    """The loss scaler's state; empty but in fp16."""
    skipped: tuple[int, int] = (0, 0)
    """Updates left out so far because the loss was not finite: of the whole run, and the latest in a row."""
    meta: dict[str, Any] = field(default_factory=dict)
    """As of `Final`; checkpoints from before there was one have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """A finished run."""

    kind: ClassVar[str] = "final"
    identity: dict[str, Any]
    meta: dict[str, Any]
    """What is needed to use the weights: arch, num_classes, options, taxonomy, recipe."""
    step: int
    weights: dict[str, Tensor]


T = TypeVar("T", Checkpoint, Final)


def save_file(path: str | Path, made: Checkpoint | Final) -> None:
    """Write a checkpoint or a run's result atomically.

    Raises:
        DataError: the file cannot be written.
    """
    content = {"format": FORMAT, "version": VERSIONS[made.kind], "kind": made.kind} | _values(made)
    with writing(Path(path), advice="free space, or check permissions") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # torch's archive writer says one when it closes a file that the system refused
            raise error.__context__ if isinstance(error.__context__, OSError) else OSError(one_line(error)) from error


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        DataError: the file is missing, damaged, of another kind or version.
    """
    return _parsed(path, read_weights_file(path), Checkpoint)


def load_final(path: str | Path) -> Final:
    """Read a run's result.

    Raises:
        DataError: the file is missing, damaged, of another kind or version.
    """
    return _parsed(path, read_weights_file(path), Final)


def parse_result(path: str | Path, content: Any) -> Final:
    """What a file of a run publishes, whichever it is, once `read_weights_file` has read it.

    Of a checkpoint that are the averaged weights of a run that has them, else the raw ones.
    """
    if isinstance(content, dict) and content.get("kind") == Checkpoint.kind:
        made = _parsed(path, content, Checkpoint)
        meta = made.meta or made.identity.get("network", {})
        weights = made.weights | (made.average or {})
        return Final(identity=made.identity, meta=meta, step=made.step, weights=weights)
    return _parsed(path, content, Final)


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Where two JSON-able mappings differ, by dotted name: `train.lr is 0.1, this run has 0.2`."""
    a, b = _flat(plain(found)), _flat(plain(expected))
    missing = "nothing"
    return [
        f"{name} is {_short(a.get(name, missing))}, this run has {_short(b.get(name, missing))}"
        for name in sorted(a | b)
        if a.get(name, missing) != b.get(name, missing)
    ]


def stored_differences(path: Path, expected: Mapping[str, Any], *, advice: str) -> list[str] | None:
    """`differences` of an identity in a JSON file; None if there is no such file.

    Args:
        advice: what to do about a file that holds none.

    Raises:
        DataError: it cannot be read, or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return differences(dict(found), expected)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {advice}") from error


def check_same(path: str | Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse to go on from another run's file.

    Raises:
        DataError: the identities differ; names what was found and what was expected.
    """
    wrong = differences(found, expected)
    if wrong:
        raise DataError(
            f"{path}: belongs to another run: {first_few(wrong, 4)}. Restore those settings, choose another "
            f"run folder, or start over with --restart-changed"
        )


def on_cpu(value: Any) -> Any:
    """A copy of nested dicts, lists and tuples whose tensors lie on the CPU and share nothing with the original."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: on_cpu(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(on_cpu(inner) for inner in value)
    return value


def plain(value: Any) -> Any:
    """A JSON-able value as JSON gives it back: mappings become dicts with text keys, tuples lists."""
    return json.loads(json.dumps(value))


class Checkpoints:
    """Reads and writes `folder`; one file at a time is written, by a thread of its own."""

    def __init__(self, folder: str | Path, *, keep: int) -> None:
        self._folder, self._keep = Path(folder), keep
        self._best, self._final = (self._folder.parent / name for name in ("best.pt", "final.pt"))
        self._best_meta: Mapping[str, Any] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self.failure: DataError | None = None
        """Of a write that has failed by now."""
        self._lock: IO[bytes] | None = None

    def claim(self) -> None:
        """Keep other runs out of the run folder, until `close` or the end of this process, however it ends.

        Raises:
            DataError: another process has it, or the folder cannot be written to.
        """
        path = self._folder.parent / "run.lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            break_links([path])
            self._lock = path.open("wb")
        except OSError as error:
            raise DataError(f"{path.parent}: cannot be written to ({error}); choose another run folder") from error
        if not lock(self._lock.fileno(), children=False):
            raise DataError(f"{path.parent}: another run is at work here; wait for it, or stop it")

    def paths(self) -> list[Path]:
        """Of the checkpoints that are there, the newest first."""
        return sorted(self._folder.glob("step-*.pt"), reverse=True)

    def path(self, step: int) -> Path:
        """Of the checkpoint after so many steps."""
        return self._folder / f"step-{step:08d}.pt"

    def latest(self, identity: Mapping[str, Any], note: Callable[[str], None]) -> Checkpoint | None:
        """The newest checkpoint that can be read; None where there is none at all.

        Args:
            identity: of the run that wants to go on.
            note: called with a line for each damaged file that is passed over.

        Raises:
            DataError: one belongs to another run, or all are damaged.
        """
        damaged: DataError | None = None
        for path in self.paths():
            try:
                checkpoint = load_checkpoint(path)
            except DataError as error:
                damaged = damaged or error
                note(f"{error}; trying the checkpoint before it")
                continue
            check_same(path, checkpoint.identity, identity)
            return checkpoint
        if damaged is not None:
            raise DataError(f"{damaged}; there is no earlier one. Or start over with --restart-changed")
        return None

    def find(
        self, identity: Mapping[str, Any], note: Callable[[str], None], *, restart_changed: bool
    ) -> Checkpoint | Literal["finished"] | None:
        """Claim the run folder; what it holds of this run. Arguments and errors as of `latest` and `claim`.

        Args:
            restart_changed: delete all files if one is of another run, or if a result or every checkpoint cannot be
                read, instead of refusing.
        """
        self.claim()
        try:
            for path in filter(Path.exists, (self._best, self._final)):
                result = load_final(path)
                check_same(path, result.identity, identity)
                self._best_meta = result.meta if path == self._best else self._best_meta
            return "finished" if self._final.exists() else self.latest(identity, note)
        except DataError as error:
            if not restart_changed:
                raise
            note(f"starting over: {str(error).partition('. Restore')[0]}")
        for path in (*self.paths(), self._final, self._best):
            path.unlink(missing_ok=True)
        self._best_meta = {}
        return None

    def best_score(self, meta: Mapping[str, Any]) -> float:
        """What the best weights that `find` met scored; -inf without any, or if scores were those of another way."""
        recipes = (m.get("recipe", {}) for m in (meta, self._best_meta))
        asked, was = ([{**r.get("validate", {}), "pictures": 0}, {**r.get("eval", {}), "batch": 0}] for r in recipes)
        return float(self._best_meta.get("score", -math.inf)) if asked == was else -math.inf

    def save(self, made: Checkpoint | Final) -> None:
        """Copy a state, or the best weights so far, and begin to write it; waits only for the write before this one.

        One write ends before the next begins, so a checkpoint finds on the disk what was to be written before it.

        Raises:
            DataError: the write before this one failed.
        """
        copied = type(made)(**on_cpu(_values(made)))
        self.wait()
        self._writing = self._thread.submit(self._write, copied)

    def wait(self) -> None:
        """Until what was begun is on the disk; raises the DataError of a write that failed."""
        if self._writing is not None:
            self._writing.result()
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Let go of the thread, after what it writes, and of the folder."""
        self._thread.shutdown(wait=True)
        if self._lock is not None:
            self._lock.close()

    def _write(self, made: Checkpoint | Final) -> None:
        path = self.path(made.step)
        try:
            if isinstance(made, Final):
                return save_file(self._best, made)
            self._folder.mkdir(parents=True, exist_ok=True)
            for left in self._folder.glob(f"step-*.pt{PART}"):  # of a process killed while it wrote
                left.unlink(missing_ok=True)
            save_file(path, made)
            for old in [other for other in self.paths() if other <= path][self._keep :]:
                old.unlink(missing_ok=True)
        except DataError as error:
            self.failure = error
        except OSError as error:
            self.failure = DataError(f"{self._folder}: cannot be used ({error}); free space, or check permissions")


def _values(made: Checkpoint | Final) -> dict[str, Any]:
    return {field.name: getattr(made, field.name) for field in fields(made)}


def _parsed(path: str | Path, content: Any, cls: type[T]) -> T:
    kind, names = cls.kind, [field.name for field in fields(cls)]
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"{path}: no checkpoint of ours (format is not {FORMAT!r}); give one that `train` wrote")
    for name, expected in (("kind", kind), ("version", VERSIONS[kind])):
        if content.get(name) != expected:
            raise DataError(
                f"{path}: {name}: found {_short(content.get(name))}, expected {expected!r}; "
                f"give a {kind!r} file written by this version"
            )
    content = {"meta": {}, **content} if cls is Checkpoint else content
    missing = [n for n in names if n not in content or not isinstance(content[n], KINDS.get(n, dict))]
    if missing or not all(isinstance(tensor, Tensor) for tensor in content["weights"].values()):
        raise DataError(f"{path}: not there, or of another type: {', '.join(missing) or 'weights'}; copy it again")
    values = {name: content[name] for name in names}
    try:
        plain([values["identity"], values["meta"]])
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: identity or meta are no plain values ({one_line(error)}); copy it again") from error
    check_values(path, {name: values.get(name) for name in ("weights", "average", "optimizer")})
    return cls(**values)


def _flat(value: Any, at: str = "") -> dict[str, Any]:
    if isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        names = [str(inner.get("dataset", i)) if isinstance(inner, dict) else str(i) for i, inner in enumerate(value)]
        if len({*names}) == len(names):  # their order counts, too
            value = {"order": names} | dict(zip(names, value, strict=True))
    if isinstance(value, dict) and value:
        return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{at}.{key}" if at else key).items()}
    return {at: value}


def _short(value: Any) -> str:
    text = value if value == "nothing" else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
