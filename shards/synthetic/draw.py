"""Draw a dataset: which pictures, on how many processes; each picture is a function of its name and the seed."""

import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from random import Random

from segstream.shards.errors import DataError, UsageError, did_you_mean
from segstream.shards.parallel import as_they_finish, in_order
from segstream.shards.synthetic import layouts
from segstream.shards.synthetic.canvas import Camera, Canvas, Scene
from segstream.shards.synthetic.domains import DOMAINS
from segstream.shards.synthetic.everyday import draw_everyday
from segstream.shards.synthetic.layouts import Annotation, Split
from segstream.shards.synthetic.objects import spread
from segstream.shards.synthetic.rooms import draw_room
from segstream.shards.synthetic.stage import Stage
from segstream.shards.synthetic.street import draw_street

MARKER = "world.json"
_GOLDEN = (5**0.5 - 1) / 2
_Task = tuple[Split, int, tuple[str, ...]]
"""(split, number of the first picture, names)."""
_GROUP = 16  # pictures per task: long enough to hide the hand-over, short enough for a lively progress line


def draw(
    out: Path,
    dataset: str,
    *,
    train: int,
    val: int,
    seed: int,
    workers: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write `train` and `val` pictures in the dataset's release layout below `out/dataset`; of the splits that it has.

    The same arguments give the same bytes, whatever `workers` is. An interrupted run is repeated from its start.

    Args:
        progress: called with (pictures done, pictures in all).

    Raises:
        UsageError: the world does not draw `dataset`.
        DataError: the release has fewer images, or the folder holds something this call would not have drawn.
    """
    if dataset not in layouts.LAYOUTS:
        raise UsageError(f"the embedded world does not draw {dataset!r}; {did_you_mean(dataset, layouts.LAYOUTS)}")
    folders = layouts.LAYOUTS[dataset].folders
    if train < 0 or val < 0:
        raise DataError(f"world: {train} train and {val} val images were asked for; give numbers from 0 up")
    asked: dict[Split, int] = {"train": train, "val": val}
    names = {s: layouts.stems(dataset, s, count) for s, count in asked.items() if count and s in folders}
    root = Path(out) / dataset
    _claim(root, {"dataset": dataset, "train": train, "val": val, "seed": seed})
    tasks = [
        (split, i, split_stems[i : i + _GROUP])
        for split, split_stems in names.items()
        for i in range(0, len(split_stems), _GROUP)
    ]
    draw_group = functools.partial(_draw_group, root, dataset, seed)
    results = as_they_finish(draw_group, tasks, workers=workers, what=f"world {dataset}")
    drawn = in_order(results, [len(group) for _, _, group in tasks], progress)
    pages = {s: [r for (of, _, _), some in zip(tasks, drawn, strict=True) if of == s for r in some] for s in names}
    layouts.finish(root, dataset, names, pages)


def draw_scene(dataset: str, split: Split, index: int, seed: int) -> tuple[Scene, Random]:
    """Scene number `index` of a split, before any camera, and the randomness left for developing it."""
    dataset = layouts.LAYOUTS[dataset].reissue_of or dataset
    key = hashlib.sha256(f"{seed}/{dataset}/{split}/{index}".encode()).digest()
    rng = Random(int.from_bytes(key, "big"))
    domain = DOMAINS[dataset]
    # a golden-ratio walk over kinds and subjects: the smallest set already has some of everything
    start = Random(f"{seed}/{dataset}/{split}").random()
    kind, pick = spread(domain.scenes, (start + index * _GOLDEN) % 1.0)
    width, height = rng.choice(domain.sizes)
    camera = Camera(
        focal=rng.uniform(*domain.focal) * min(height, width * 1.1),
        centre=width * rng.uniform(0.45, 0.55),
        horizon=height * rng.uniform(*domain.horizon),
        height=rng.uniform(*domain.camera_height),
    )
    stage = Stage(Canvas(width, height, rng), camera, domain, rng)
    {"street": draw_street, "room": draw_room, "everyday": draw_everyday}[kind](stage, pick)
    return stage.canvas.finish(), rng


def _claim(root: Path, settings: dict[str, str | int]) -> None:
    """Mark the folder as ours; refuse one that holds real data or another drawing."""
    marker = root / MARKER
    if root.is_dir() and any(root.iterdir()):
        try:
            found = json.loads(marker.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = None
        if found != settings:
            whose = "other data" if found is None else f"a world drawn with {found}"
            raise DataError(f"{root}: holds {whose}; remove it or choose another --out")
    layouts.save(marker, json.dumps(settings).encode())


def _draw_group(root: Path, dataset: str, seed: int, task: _Task) -> list[Annotation]:
    split, first, stems = task
    records, domain = [], DOMAINS[layouts.LAYOUTS[dataset].reissue_of or dataset]
    for i, stem in enumerate(stems, first):
        scene, rng = draw_scene(dataset, split, i, seed)
        photo = domain.photograph(scene.image, rng)
        records.append(layouts.write(root, dataset, split, stem, scene, photo))
    return records
