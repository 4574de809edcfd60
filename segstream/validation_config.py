"""The `validate` section of a recipe."""

from __future__ import annotations

from dataclasses import dataclass

from segstream.shards.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidateConfig:
    """What to look at while a run trains, every `train.validate_every` steps and after the last; changes no weight."""

    data: tuple[str, ...] = ()
    """Shard sets with labels (URLs as of `eval`), scored by mIoU; none: no scores."""
    limit: int | None = None
    """Images of each set, evenly spread over it; None: all."""
    short_side: int | None = None
    """Resize images to this side first; None: as `eval.short_side`."""
    pictures: int = 4
    """Training crops drawn with label and prediction; 0: none."""

    def __post_init__(self) -> None:
        for name in ("limit", "short_side"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DataError(f"{name}: {value}; must be at least 1")
        if not 0 <= self.pictures <= 64:
            raise DataError(f"pictures: {self.pictures}; must be from 0 to 64")
        if len(set(self.data)) < len(self.data):
            raise DataError(f"data: {list(self.data)}; a set is named twice")
