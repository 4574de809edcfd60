"""What a training run reports, measured without making a GPU wait."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from segstream.model.training.train_state import StepLoss


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """What happened since the row before."""

    step: int
    """Updates made so far."""
    steps: int
    """Updates of the whole run."""
    loss: float
    """Mean over the steps since the last row."""
    lr: float
    """Of the latest step."""
    crops_per_s: float
    data_wait: float
    """Share of the time spent waiting for batches, 0..1."""
    eta_s: float
    """Seconds to go at this pace."""
    losses: dict[str, float]
    """Mean cross-entropy by dataset, over the steps that had a labelled pixel of it; nan if none had."""
    memory_mib: float
    """Most memory so far: of the device on CUDA, of this process on a CPU (nan where the system does not say)."""
    skipped: int
    """Steps of the whole run whose update was left out because the loss was not finite."""


class MetricsLog:
    """Sums since the last row; they stay on the device until a row is asked for."""

    def __init__(self, datasets: tuple[str, ...]) -> None:
        self._datasets = datasets
        self._waited_before = 0.0
        self._reset()

    def _reset(self) -> None:
        self._since = time.perf_counter()
        self._steps = self._crops = 0
        self._total: Tensor = torch.zeros(())
        self._sums = self._seen = torch.zeros(len(self._datasets))

    def add(self, report: StepLoss, crops: int) -> None:
        """Count one step of so many crops."""
        self._total = self._total.to(report.loss.device) + report.loss
        self._sums = self._sums.to(report.means.device) + report.means.nan_to_num(0.0)
        self._seen = self._seen.to(report.means.device) + ~report.means.isnan()
        self._steps += 1
        self._crops += crops

    def is_finite(self) -> bool:
        """Whether every loss since the last row was a number; waits for the device."""
        return bool(torch.isfinite(self._total))

    def row(self, step: int, steps: int, *, lr: float, wait_s: float, skipped: int = 0) -> LogRow:
        """Report and start again; waits for the device.

        Args:
            wait_s: seconds of waiting for batches in the whole run so far.
        """
        loss = float(self._total) / self._steps if self._steps else float("nan")
        means = (self._sums / self._seen).tolist()
        took = max(time.perf_counter() - self._since, 1e-9)
        row = LogRow(
            step=step,
            steps=steps,
            loss=loss,
            lr=lr,
            crops_per_s=self._crops / took,
            data_wait=min((wait_s - self._waited_before) / took, 1.0),
            eta_s=(steps - step) * took / max(self._steps, 1),
            losses=dict(zip(self._datasets, means, strict=True)),
            memory_mib=high_water_mib(self._total.device),
            skipped=skipped,
        )
        self._waited_before = wait_s
        self._reset()
        return row


def high_water_mib(device: torch.device) -> float:
    """Most memory so far: what torch had allocated on a GPU, what was resident of this process on a CPU.

    nan where the system does not say (Linux does).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    # Linux' count for this program; getrusage's would include that of the process it was started from.
    status = Path("/proc/self/status")
    return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024 if status.exists() else float("nan")
