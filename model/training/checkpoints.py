"""The checkpoints of a run: the latest few, written while the run goes on.

RUN/checkpoints/step-00000200.pt, step-00000400.pt
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from segstream.model.checkpoint import Checkpoint, check_same, load_checkpoint, on_cpu, save_checkpoint
from segstream.shards.errors import DataError
from segstream.shards.files import PART, lock


class Checkpoints:
    """Reads and writes `folder`; one file at a time is written, by a thread of its own."""

    def __init__(self, folder: str | Path, *, keep: int) -> None:
        self._folder, self._keep = Path(folder), keep
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

    def save(self, checkpoint: Checkpoint) -> None:
        """Copy a state and begin to write it; waits only for the write before this one.

        Raises:
            DataError: the write before this one failed.
        """
        copied = Checkpoint(**{name: on_cpu(getattr(checkpoint, name)) for name in Checkpoint.__dataclass_fields__})
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

    def discard(self) -> None:
        """Delete all checkpoints."""
        for path in self.paths():
            path.unlink(missing_ok=True)

    def _write(self, checkpoint: Checkpoint) -> None:
        path = self.path(checkpoint.step)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for left in self._folder.glob(f"step-*.pt{PART}"):  # of a process killed while it wrote
                left.unlink(missing_ok=True)
            save_checkpoint(path, checkpoint)
            for old in [other for other in self.paths() if other <= path][self._keep :]:
                old.unlink(missing_ok=True)
        except DataError as error:
            self.failure = error
        except OSError as error:
            self.failure = DataError(f"{self._folder}: cannot be used ({error}); free space, or check permissions")
