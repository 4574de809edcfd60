"""How much memory a training step takes, found without taking it.

The network is built and run forward and backward on fake tensors, which have shapes, types and lifetimes but no data.
Every allocation of the step is counted when it appears and when it is let go of, so the most that is alive at one
moment is known, autocast and recomputed activations included.

Against what torch's own allocator reports of real steps the count is within a fifth (a test holds it to a quarter). A
process takes more than its tensors do, see `needed`. Not counted: batches made ahead, and the region term of `rmi`.

Fake tensors, dispatch modes and a storage's `_cdata` are torch's own business and may change with it. So nothing that
trains imports this module, only `train --dry-run` does.
"""

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from segstream.model.config import ModelConfig, Precision, TrainConfig
from segstream.model.networks.blocks import freeze
from segstream.model.networks.build import build
from segstream.model.networks.upsample import STRIP_BYTES, at_least_float32
from segstream.model.types import TrainOutput

_STRIPS = 3  # at one moment in the loss: upsampled logits, their rows, their gradient
_LOW = {"bf16": torch.bfloat16, "fp16": torch.float16}
_PROCESS = {"cpu": (1.3, 160 << 20), "cuda": (1.1, 700 << 20)}
"""Device -> (what blocks and fragments make of tensors, what libraries take). The CPU's are measured on two networks; a
GPU's are a context's usual size and a tenth for convolutions' workspaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMemory:
    """Bytes of a step of one process, by what they hold."""

    parameters: int
    """How many numbers are learnt; not bytes."""
    weights: int
    """Parameters and batch norms' statistics; once more if their moving average is kept."""
    gradients: int
    optimizer: int
    """Momentum; both moments of AdamW."""
    activations: int
    """The most at one moment of what forward and backward pass keep and make, their gradients so far apart."""

    @property
    def total(self) -> int:
        """Tensors, all together."""
        return self.weights + self.gradients + self.optimizer + self.activations

    @property
    def checkpoint(self) -> int:
        """A checkpoint on disk."""
        return self.weights + self.optimizer


def estimate_step(
    model: ModelConfig,
    num_classes: int,
    train: TrainConfig,
    *,
    images: int,
    crop_hw: tuple[int, int],
    precision: Precision,
    datasets: int = 1,
) -> StepMemory:
    """Memory of a training step of one process.

    Args:
        images: how many go through the network at once.
        crop_hw: their size, pixels.
        precision: what `model.device.pick_precision` gave.
        datasets: of the mix; MGDA keeps a gradient of each.

    Raises:
        UsageError, DataError: what `model.build` and the network refuse.
    """
    with FakeTensorMode():
        net = build(model.arch, num_classes, **model.options).train()
        freeze(net, train.freeze)
        trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
        learnt, kept = _bytes(trained), _bytes([*net.parameters(), *net.buffers()])
        activations = _most_alive(net, torch.empty(images, 3, *crop_hw), _LOW.get(precision))
    return StepMemory(
        parameters=sum(parameter.numel() for parameter in trained),
        weights=kept * (2 if train.ema is not None else 1),
        gradients=learnt * (1 + datasets if train.mgda else 1),
        optimizer=learnt * (2 if train.optimizer == "adamw" else 1),
        activations=activations,
    )


def needed(memory: StepMemory, device_type: str) -> int:
    """Bytes that a process should find free for these tensors: allocators and libraries want their part."""
    factor, fixed = _PROCESS[device_type]
    return int(memory.total * factor) + fixed


def _most_alive(net: nn.Module, pixels: Tensor, low: torch.dtype | None) -> int:
    gradients: list[int] = []
    for parameter in (parameter for parameter in net.parameters() if parameter.requires_grad):
        parameter.register_post_accumulate_grad_hook(lambda p: gradients.append(_bytes([p])))  # type: ignore[no-untyped-call]
    alive = _Allocations(apart=lambda: sum(gradients))
    with alive:
        with torch.autocast("cpu", low, enabled=low is not None):
            output: TrainOutput = net(pixels.clone())
        losses = [_Judged.apply(output.logits), *(_Judged.apply(aux.logits) for aux in output.aux)]  # type: ignore[no-untyped-call]
        del output
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
    return alive.most


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class _Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of the storages that operations make, as long as they live."""

    def __init__(self, apart: Callable[[], int]) -> None:
        """`apart` says how many of the bytes alive are counted elsewhere."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._apart, self._alive, self._now = apart, set[int](), 0
        self.most: int = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for value in tree_leaves(made):
            if isinstance(value, Tensor):
                self._see(value.untyped_storage())
        return made

    def _see(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            return
        self._alive.add(key)
        self._now += size
        self.most = max(self.most, self._now - self._apart())
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self._now -= size


class _Judged(torch.autograd.Function):
    """What `model.losses.pixel_loss` allocates: logits in float32, shifted, their gradient, and strips."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        values = at_least_float32(logits)
        values = values - values.amax(dim=1, keepdim=True)
        ctx.grad, ctx.dtype = torch.empty_like(values), logits.dtype
        strips = torch.empty(_STRIPS * STRIP_BYTES["cpu"], dtype=torch.uint8)
        del strips  # counted by now
        return values.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_sum: Tensor) -> Tensor:
        gradient: Tensor = (ctx.grad * grad_sum).to(ctx.dtype)
        return gradient
