"""One step: the network with its optimizer and all that goes with them; one batch in, one update made.

The gradient is the same on every process, whichever of them had which samples. Two ways: `_set_gradient`, of the loss
over the mix, and `_set_mgda_gradient`, of the combination of datasets that MGDA chooses. Both leave the gradient in the
parameters and return a `StepLoss`.

`MixedPrecision`: which number types a step runs in.

    fp32    float32 throughout, also on GPUs that would round factors to TF32 by themselves      apex O0
    tf32    float32 whose products round their factors to 10 bits, on GPUs since Ampere
    fp16    float16 where torch's autocast finds it safe, weights in float32, loss scaling       apex O1, O2
    bf16    bfloat16 likewise, which needs no loss scaling

What decides the result is the name; it is part of a run's identity.

Averaged weights (`train.ema`): after every update average := decay * average + (1 - decay) * weights, from the first
weights on. torch's `swa_utils.AveragedModel` gives the same bits once its counter is set to 1, but at every update it
copies each of the network's buffers (HRNet-W48 has 918; hrnet-tiny's update took 2.7 ms instead of 0.6 on a CPU) and
moves its counter to the device, which makes a GPU wait. So here its arithmetic is one call on a copy of the network.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from segstream.model.checkpoint import Checkpoint, Final, on_cpu
from segstream.model.config import Precision, TrainConfig
from segstream.model.distributed import ProcessGroup, pick_device, pick_precision
from segstream.model.losses.ccsa import ccsa_loss
from segstream.model.losses.loss import LabelCounts, LossSums, balance_weights, dataset_means, loss_sums, mixed_loss
from segstream.model.networks.blocks import freeze, normalise
from segstream.model.training.ddp import Reducer
from segstream.model.training.mgda import min_norm
from segstream.model.types import Batch, BatchSource, Grouped, LogRow, TrainOutput
from segstream.shards.errors import DataError

COLUMNS = 2**22  # of gradients that are float64 at one time
LEAST_SCALE = 2.0**-14  # of the loss; below it nothing that float16 can hold is left of a gradient
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class MixedPrecision:
    """A precision, set up on a device. TF32 is a switch of the whole process: torch has no other."""

    def __init__(self, precision: Precision, device: torch.device) -> None:
        """`precision` is what `pick_precision` gave for the device."""
        self._precision, self._device = precision, device
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        """Scales the loss and skips updates of overflown gradients; does nothing but in fp16."""
        if device.type == "cuda":
            torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
            torch.backends.cudnn.allow_tf32 = precision == "tf32"

    def autocast(self) -> AbstractContextManager[Any]:
        """Where the network's forward pass runs."""
        kind = _TYPES.get(self._precision, torch.bfloat16)
        return torch.autocast(self._device.type, kind, enabled=self._precision in _TYPES)

    def check_scale(self) -> None:
        """Refuse to skip updates for ever; waits for the device.

        Raises:
            DataError: the loss scale fell so low that gradients overflow whatever it is.
        """
        if self.scaler.is_enabled() and self.scaler.get_scale() < LEAST_SCALE:
            raise DataError(
                f"precision: fp16 gradients overflow at a loss scale of {self.scaler.get_scale():.1e}; "
                f"use bf16 or fp32, or lower lr"
            )


@dataclass(frozen=True, slots=True)
class StepLoss:
    """What a step's loss was, over the global batch."""

    loss: Tensor
    """Scalar."""
    means: Tensor
    """(D,) see `model.losses.loss.dataset_means`."""


class TrainState:
    """One process' share of a run. All processes make the same calls; their weights stay the same."""

    def __init__(self, net: nn.Module, source: BatchSource, config: TrainConfig, group: ProcessGroup, seed: int):
        """Bring `net` to its device, with rank 0's weights; `seed` is the run's.

        Raises:
            DataError: ccsa, and only one dataset.
        """
        self._config, self._group, self._seed = config, group, seed
        if config.ccsa is not None and len(source.datasets) < 2:
            raise DataError(f"train.ccsa: {source.datasets[0]} is alone in the mix; add a dataset, or leave ccsa out")
        self.device = pick_device(config.device)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        for tensor in net.state_dict().values():
            group.broadcast_(tensor)
        if self.device.type == "cuda" and group.world_size > 1:
            net = nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]  # names of weights stay
        self._layout = torch.channels_last if config.channels_last else torch.contiguous_format
        placed = net.to(device=self.device, memory_format=self._layout)  # type: ignore[call-overload]
        self.net = cast(nn.Module, placed)
        self._frozen_norms = freeze(self.net, config.freeze) if config.freeze else []
        self._train_mode()
        self._forward: Callable[[Tensor], TrainOutput] = torch.compile(self.net) if config.compile else self.net
        self._parameters = [parameter for parameter in self.net.parameters() if parameter.requires_grad]
        self._optimizer = optimizer_of(self.net, config)
        self._amp = MixedPrecision(pick_precision(config.precision, self.device), self.device)
        self._average: nn.Module | None = None if config.ema is None else deepcopy(self.net).requires_grad_(False)
        """With averaged weights, of the parameters alone: batch norms' statistics are averages already."""
        averages = () if self._average is None else self._average.parameters()
        pairs = zip(averages, self.net.parameters(), strict=False)
        self._averages: list[Tensor] = [ours for ours, parameter in pairs if parameter.requires_grad]
        self.class_weights = balance_weights(source.class_shares, config.class_balance, device=torch.device("cpu"))
        """(K,) on the CPU, where labels are counted."""
        self._class_weights = None if self.class_weights is None else self.class_weights.to(self.device)
        self._shares = torch.tensor(source.weights, dtype=torch.float32, device=self.device)
        self._reducer = Reducer(self._parameters, group) if group.world_size > 1 and not config.mgda else None

    def update(self, batch: Batch, global_counts: LabelCounts, lr: float) -> StepLoss | None:
        """Make one update; None where loss or gradient was not finite and `on_nonfinite` is skip: nothing changed."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr * group["factor"]
        careful = self._config.on_nonfinite == "skip"
        buffers = [buffer.clone() for buffer in self.net.buffers()] if careful else []
        self._optimizer.zero_grad(set_to_none=True)
        on_device = (t.to(self.device, non_blocking=True) for t in (global_counts.pixels, global_counts.images))
        set_gradient = self._set_mgda_gradient if self._config.mgda else self._set_gradient
        report = set_gradient(batch, LabelCounts(*on_device))
        if careful and not self._is_usable(report):
            with torch.no_grad():
                for buffer, before in zip(self.net.buffers(), buffers, strict=True):
                    buffer.copy_(before)
            return None
        scaler = self._amp.scaler
        if self._config.clip_norm is not None:
            scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self._parameters, self._config.clip_norm)
        scaler.step(self._optimizer)
        scaler.update()
        if self._average is not None and self._config.ema is not None:
            weights = [weight.detach() for weight in self._parameters]
            torch._foreach_lerp_(self._averages, weights, 1.0 - self._config.ema)
        return report

    def _train_mode(self) -> None:
        self.net.train()
        for norm in self._frozen_norms:
            norm.eval()

    def all_finite(self) -> bool:
        """Whether all weights and statistics are numbers, on every rank; waits for the device.

        Raises:
            DataError: fp16 cannot hold this run's gradients.
        """
        self._amp.check_scale()
        floats = [tensor for tensor in self.net.state_dict().values() if tensor.is_floating_point()]
        sound = bool(torch.stack([tensor.isfinite().all() for tensor in floats]).all())
        return not self._group.any(not sound)

    @contextmanager
    def ema_weights(self) -> Iterator[nn.Module]:
        """The network in eval mode as it would be published: averaged weights if any, rank 0's running statistics."""
        for buffer in self.net.buffers():
            self._group.broadcast_(buffer)
        if self._average is not None:
            for ours, buffer in zip(self._average.buffers(), self.net.buffers(), strict=True):
                ours.copy_(buffer)
        try:
            yield (self._average or self.net).eval()
        finally:
            self._train_mode()

    def checkpoint(
        self, *, identity: dict[str, Any], meta: dict[str, Any], step: int, skipped: tuple[int, int]
    ) -> Checkpoint:
        """All that the next step depends on; the tensors are those in use."""
        return Checkpoint(
            identity=identity,
            step=step,
            weights=self.net.state_dict(),
            optimizer=self._optimizer.state_dict(),
            average=None if self._average is None else dict(self._average.named_parameters()),
            scaler=self._amp.scaler.state_dict(),
            skipped=skipped,
            meta=meta,
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from there."""
        self.net.load_state_dict(checkpoint.weights)
        self._optimizer.load_state_dict(checkpoint.optimizer)
        if self._average is not None and checkpoint.average is not None:
            self._average.load_state_dict(checkpoint.average, strict=False)  # statistics are the network's
        self._amp.scaler.load_state_dict(checkpoint.scaler)

    def final(self, *, identity: dict[str, Any], meta: dict[str, Any], step: int) -> Final:
        """What is published."""
        with self.ema_weights() as net:
            weights = {name: tensor.contiguous() for name, tensor in on_cpu(net.state_dict()).items()}
        return Final(identity=identity, meta=meta, step=step, weights=weights)

    def _passes(self, batch: Batch) -> Iterator[tuple[LossSums, Tensor]]:
        """The loss sums of each part of a batch, with its dataset ids on the device."""
        tensors = (batch.images, batch.labels, batch.dataset_ids)
        split = (tensor.tensor_split(self._config.accumulate) for tensor in tensors)
        for images, labels, ids in zip(*split, strict=True):
            pixels = normalise(images.to(self.device, non_blocking=True)).contiguous(memory_format=self._layout)
            with self._amp.autocast():
                output = self._forward(pixels)
            on_device = labels.to(self.device, non_blocking=True)
            weights, aux_rmi = self._class_weights, self._config.aux_rmi
            sums = loss_sums(output, on_device, loss=self._config.loss, class_weights=weights, aux_rmi=aux_rmi)
            if (ccsa := self._config.ccsa) is not None:  # the whole batch is one part
                key = (self._seed, batch.step)
                contrast = ccsa_loss(output.features, labels, ids, ccsa, self._group, key)
                sums = replace(sums, ccsa=(ccsa.alpha, contrast))
            yield sums, ids.to(self.device, non_blocking=True)

    def _set_gradient(self, batch: Batch, global_counts: LabelCounts) -> StepLoss:
        """That of the sum over datasets of their share times their mean loss; times the loss' scale in fp16."""
        report = self._shares.new_zeros(1 + len(self._shares))
        for part, (sums, ids) in enumerate(self._passes(batch), start=1):
            loss = mixed_loss(sums, ids, self._shares, global_counts)
            report += torch.cat([loss.detach()[None], dataset_means(sums, ids, global_counts)])
            if self._reducer is not None and part == self._config.accumulate:
                self._reducer.arm()
            self._amp.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self._reducer is not None:
            self._reducer.finish()
        self._group.sum_(report)
        return StepLoss(loss=report[0], means=report[1:])

    def _set_mgda_gradient(self, batch: Batch, global_counts: LabelCounts) -> StepLoss:
        """That of the combination of datasets' losses whose gradient is shortest: MGDA with a task for each dataset.

        Each dataset's loss has a gradient of its own, by all parameters, summed over all passes and processes. Their
        shortest combination, shares 0..1 that sum to 1, lowers every loss, or finds that no direction does. The
        reported loss is combined by the same shares. A dataset without a labelled pixel in the batch takes no part: its
        gradient, zero, would be the shortest of all.

        Keeps one activation of each layer and D gradients: as many backward passes as datasets, one forward pass.

        Source: Sener and Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018.
        """
        each = torch.eye(len(self._shares), device=self.device)
        present = torch.nonzero(global_counts.pixels.cpu() > 0).flatten().tolist()
        sizes = [parameter.numel() for parameter in self._parameters]
        gradients = each.new_zeros(len(present), sum(sizes))  # (D', all parameters)
        losses, means = each.new_zeros(2, len(each))
        for sums, ids in self._passes(batch):
            means += dataset_means(sums, ids, global_counts)
            for row, dataset in enumerate(present):
                loss = mixed_loss(sums, ids, each[dataset], global_counts)
                losses[dataset] += loss.detach()
                again = row + 1 < len(present)
                parts = torch.autograd.grad(loss, self._parameters, retain_graph=again, materialize_grads=True)
                gradients[row] += torch.cat([part.reshape(-1) for part in parts])
        self._group.sum_(gradients)
        report = self._group.sum_(torch.stack([losses, means]))
        shares = self._shortest(gradients)
        combined = torch.split(shares @ gradients, sizes)
        for parameter, part in zip(self._parameters, combined, strict=True):
            parameter.grad = torch.empty_like(parameter).copy_(part.view_as(parameter))
        return StepLoss(loss=(shares * report[0, present]).sum(), means=report[1])

    def _shortest(self, gradients: Tensor) -> Tensor:
        """Shares of (D', P) gradients, (D',), solved by rank 0 for all, so that they are the same bits everywhere."""
        blocks = (gradients[:, start : start + COLUMNS].double() for start in range(0, gradients.shape[1], COLUMNS))
        gram = torch.stack([block @ block.T for block in blocks]).sum(dim=0).cpu()
        shares = min_norm(gram)  # of a loss that is not finite some, too: the trainer deals with it
        return self._group.broadcast_(shares).to(gradients) if len(shares) else shares.to(gradients)

    def _is_usable(self, report: StepLoss) -> bool:
        """Loss and gradient are sums over all ranks, so all ranks see the same; waits for the device."""
        if self._amp.scaler.is_enabled():  # it has its own eye on gradients
            return bool(report.loss.isfinite())
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        return bool(report.loss.isfinite() & nn.utils.get_total_norm(gradients).isfinite())


def optimizer_of(net: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer of what has a gradient, with a group for each part that has a published learning rate of its own.

    Those rates belong to SGD; AdamW scales every weight's step by itself.
    """
    adamw = config.optimizer == "adamw"
    parts = net.lr_groups() if isinstance(net, Grouped) and not adamw else ((net, 1.0),)
    learnt = [([p for p in part.parameters() if p.requires_grad], factor) for part, factor in parts]
    groups = [{"params": parameters, "factor": factor} for parameters, factor in learnt if parameters]
    if adamw:
        betas = (config.momentum, 0.999)
        return torch.optim.AdamW(groups, lr=config.lr, betas=betas, weight_decay=config.weight_decay)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)


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
