"""The network with its optimizer and all that goes with them: one batch in, one update made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from segstream.model.checkpoint import Final, Progress
from segstream.model.config import TrainConfig
from segstream.model.device import pick_device, pick_precision
from segstream.model.distributed import ProcessGroup
from segstream.model.losses.loss import LabelCounts, balance_weights
from segstream.model.training.step import ForwardPasses, MGDAGradient, MixedPrecision, StepLoss, WeightedGradient
from segstream.model.types import Batch, BatchSource, Grouped


class TrainState:
    """See the module's docstring. Every rank makes the same calls; their weights stay the same."""

    def __init__(self, net: nn.Module, source: BatchSource, config: TrainConfig, group: ProcessGroup) -> None:
        """Bring `net` to its device, with rank 0's weights."""
        self._config, self._group = config, group
        self.device = pick_device(config.device)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        for tensor in net.state_dict().values():
            group.broadcast_(tensor)
        if self.device.type == "cuda" and group.world_size > 1:
            net = nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]  # names of weights stay
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self.net = cast(nn.Module, net.to(device=self.device, memory_format=layout).train())  # type: ignore[call-overload]
        self._parameters = list(self.net.parameters())
        self._optimizer = optimizer_of(self.net, config)
        self._amp = MixedPrecision(pick_precision(config.precision, self.device), self.device)
        self._average = Average(self.net, config.ema) if config.ema is not None else None
        self.class_weights = balance_weights(source.class_shares, config.class_balance, device=torch.device("cpu"))
        """(K,) on the CPU, where labels are counted."""
        passes = ForwardPasses(
            forward=torch.compile(self.net) if config.compile else self.net,
            device=self.device,
            layout=layout,
            amp=self._amp,
            loss=config.loss,
            class_weights=None if self.class_weights is None else self.class_weights.to(self.device),
            parts=config.accumulate,
        )
        self._gradient: WeightedGradient | MGDAGradient
        if config.mgda:
            self._gradient = MGDAGradient(passes, self._parameters, len(source.datasets), group)
        else:
            shares = torch.tensor(source.weights, dtype=torch.float32, device=self.device)
            self._gradient = WeightedGradient(passes, self._parameters, shares, group)

    def update(self, batch: Batch, global_counts: LabelCounts, lr: float) -> StepLoss | None:
        """Make one update; None where loss or gradient was not finite and `on_nonfinite` is skip: nothing changed."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr * group["factor"]
        careful = self._config.on_nonfinite == "skip"
        buffers = [buffer.clone() for buffer in self.net.buffers()] if careful else []
        self._optimizer.zero_grad(set_to_none=True)
        report = self._gradient(batch, _on(self.device, global_counts))
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
        if self._average is not None:
            self._average.update()
        return report

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
        with self._average.in_place() if self._average is not None else nullcontext():
            try:
                yield self.net.eval()
            finally:
                self.net.train()

    def progress(self, *, identity: dict[str, Any], step: int, skipped: tuple[int, int]) -> Progress:
        """All that the next step depends on; the tensors are those in use."""
        return Progress(
            identity=identity,
            step=step,
            weights=self.net.state_dict(),
            optimizer=self._optimizer.state_dict(),
            average=self._average.state() if self._average is not None else None,
            scaler=self._amp.scaler.state_dict(),
            skipped=skipped,
        )

    def restore(self, progress: Progress) -> None:
        """Go on from there."""
        self.net.load_state_dict(progress.weights)
        self._optimizer.load_state_dict(progress.optimizer)
        if self._average is not None and progress.average is not None:
            self._average.load(progress.average)
        self._amp.scaler.load_state_dict(progress.scaler)

    def final(self, *, identity: dict[str, Any], meta: dict[str, Any], step: int) -> Final:
        """What is published."""
        with self.ema_weights() as net:
            weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in net.state_dict().items()}
        weights = {name: tensor.contiguous() for name, tensor in weights.items()}
        return Final(identity=identity, meta=meta, step=step, weights=weights)

    def _is_usable(self, report: StepLoss) -> bool:
        """Loss and gradient are sums over all ranks, so all ranks see the same; waits for the device."""
        if self._amp.scaler.is_enabled():  # it has its own eye on gradients
            return bool(report.loss.isfinite())
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        return bool(report.loss.isfinite() & nn.utils.get_total_norm(gradients).isfinite())


class Average:
    """After every update: average := decay * average + (1 - decay) * weights. It starts as the first weights.

    Running statistics of batch norms are averages already; those of the network go with the averaged weights.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self._decay = decay
        self._weights = dict(net.named_parameters())
        self._averages = {name: weight.detach().clone() for name, weight in self._weights.items()}

    def update(self) -> None:
        """Count the present weights in."""
        weights = [weight.detach() for weight in self._weights.values()]
        torch._foreach_lerp_(list(self._averages.values()), weights, 1.0 - self._decay)

    def state(self) -> dict[str, Tensor]:
        """By name of the parameter."""
        return self._averages

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state."""
        for name, average in self._averages.items():
            average.copy_(state[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network with averaged weights; the others come back afterwards, bit for bit."""
        with torch.no_grad():
            kept = {name: weight.detach().clone() for name, weight in self._weights.items()}
            self._set(self._averages)
        try:
            yield
        finally:
            self._set(kept)

    @torch.no_grad()
    def _set(self, values: Mapping[str, Tensor]) -> None:
        for name, weight in self._weights.items():
            weight.copy_(values[name])


def optimizer_of(net: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer, with a group for each part that the network was published with a learning rate for.

    Those rates belong to SGD; AdamW scales every weight's step by itself.
    """
    if config.optimizer == "adamw":
        groups = [{"params": list(net.parameters()), "factor": 1.0}]
        betas = (config.momentum, 0.999)
        return torch.optim.AdamW(groups, lr=config.lr, betas=betas, weight_decay=config.weight_decay)
    parts = net.lr_groups() if isinstance(net, Grouped) else ((net, 1.0),)
    groups = [{"params": list(part.parameters()), "factor": factor} for part, factor in parts]
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)


def _on(device: torch.device, counts: LabelCounts) -> LabelCounts:
    def move(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    return LabelCounts(pixels=move(counts.pixels), images=move(counts.images))
