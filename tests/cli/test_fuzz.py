"""Flipped bytes, cut files and changed fields of what is read: an error of one line, or what was there before.

A JPEG outside a shard set has no checksum, and a changed recipe may be another good recipe: of these it is asked only
that nothing breaks.
"""

import copy
import hashlib
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from segstream.model.inference.predictor import Predictor
from segstream.pipeline.eval_images import EvalImages
from segstream.recipe import load_recipe
from segstream.shards.convert.convert import convert
from segstream.shards.format.reader import open_shards
from tests.cli import forked

VALUES = (
    *(None, True, -1, 0, 1, 255, 2**31, 10**15, 10**40, 1.5, float("nan"), "", "x", "a" * 100_000, "../../x", "/etc"),
    *([], {}, [[]], ["x"] * 1000, "[red]\x1b[31m", "é\ud800", "NaN", "1e-1", "null"),
)


@dataclass(frozen=True)
class Target:
    """A file to damage, and how it is read."""

    file: Path
    read: Callable[[str], Any]
    """Runs in a process of its own; what it returns is compared."""
    place: Path
    """Its argument."""
    checked: bool = True
    """Whether any change must be noticed or mean nothing."""


def flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 4])):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def shift(data: bytes, rng: random.Random) -> bytes:
    """A piece doubled or lost in the midst."""
    at, size = rng.randrange(len(data)), rng.choice([1, 2, 16, 512])
    return (
        data[:at] + data[at : at + size] * 2 + data[at + size :]
        if rng.random() < 0.5
        else data[:at] + data[at + size :]
    )


def change_field(data: bytes, rng: random.Random) -> bytes:
    """Another value, none, or one more, somewhere in a JSON or YAML mapping."""
    whole = yaml.safe_load(data)
    places: list[tuple[Any, Any]] = []

    def collect(value: Any) -> None:
        pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in pairs:
            places.append((value, key))
            collect(inner)

    collect(whole)
    holder, key = rng.choice(places)
    way = rng.random()
    if way < 0.15:
        del holder[key]
    elif way < 0.25 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    else:
        holder[key] = rng.choice(VALUES)
    return json.dumps(whole).encode()


def read_set(url: str) -> Any:
    """Whatever a set says and holds."""
    with open_shards(url) as shards:
        manifest, members = shards.manifest, shards.manifest.members
        facts = (manifest.dataset, manifest.split, manifest.native.classes, str(manifest.counts), members, len(shards))
        stored = [hashlib.sha256(shards.read(i, name)).hexdigest() for i in range(len(shards)) for name in members]
        keys = [shards.entry(i).key for i in range(len(shards))]
    with EvalImages(url) as images:
        pixels = [hashlib.sha256(image.tobytes()).hexdigest() for _, image, _ in images.read(range(len(images)), [])]
    return facts, stored, keys, pixels


def read_release(place: str) -> Any:
    folder = Path(place)
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    url = convert(folder / "own.yaml", split="val", out=out).url
    with open_shards(url) as shards:
        return [shards.read(i, "native") for i in range(len(shards))]


def read_weights(path: str) -> Any:
    predictor = Predictor(path, device="cpu")
    return {key: value.numpy().tobytes() for key, value in predictor.net.state_dict().items()}


def read_recipe(path: str) -> Any:
    return str(load_recipe(path))


@pytest.fixture(scope="module")
def targets(place: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    folder = tmp_path_factory.mktemp("fuzz")
    shutil.copytree(place / "shards/camvid-11/val", folder / "camvid-11/val")
    shard = folder / "camvid-11/val"
    shutil.copy(place / "recipe.yaml", folder / "recipe.yaml")
    shutil.copy(place / "runs/recipe/final.pt", folder / "final.pt")
    own = folder / "own"
    with open_shards(shard) as shards:
        for n in range(len(shards)):
            for part, end, member in (("images", "jpg", "image"), ("labels", "png", "native")):
                path = own / part / f"{n}.{end}"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = cv2.imdecode(np.frombuffer(shards.read(n, member), np.uint8), cv2.IMREAD_UNCHANGED)
                path.write_bytes(cv2.imencode(f".{end}", pixels)[1].tobytes())
        classes = [{"name": name} for name in shards.manifest.native.classes]
    facts = {"name": "own", "splits": {"val": {"images": "images/*.jpg", "labels": "labels/*.png"}}, "classes": classes}
    (own / "own.yaml").write_text(json.dumps(facts | {"root": str(own)}))
    set_files = sorted(path for path in shard.iterdir() if path.is_file())
    return {path.name: Target(path, read_set, shard) for path in set_files} | {
        "label.png": Target(own / "labels/0.png", read_release, own),
        "image.jpg": Target(own / "images/0.jpg", read_release, own, checked=False),
        "own.yaml": Target(own / "own.yaml", read_release, own, checked=False),
        "final.pt": Target(folder / "final.pt", read_weights, folder / "final.pt"),
        "recipe.yaml": Target(folder / "recipe.yaml", read_recipe, folder / "recipe.yaml", checked=False),
    }


def fault(target: Target, data: bytes, expected: Any) -> str:
    """What is wrong with the answer to a damaged file; empty if nothing. The file is as before afterwards."""
    whole = target.file.read_bytes()
    target.file.write_bytes(data)
    try:
        kind, value = forked.outcome(target.read, str(target.place))
    finally:
        target.file.write_bytes(whole)
    if kind == "value":
        return "silently another result" if target.checked and value != expected else ""
    if kind == "error":
        return "" if value.isprintable() and len(value) < 2000 else f"not one plain line: {value[:300]!r}"
    return f"{kind}: {value}"


def campaign(targets: dict[str, Target], count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Damage so many files, each kind of file and of damage in turn; how often each, and what went wrong."""
    rng, done, faults = random.Random(seed), Counter[str](), list[str]()
    expected = {name: forked.outcome(target.read, str(target.place)) for name, target in targets.items()}
    assert {kind for kind, _ in expected.values()} == {"value"}, expected
    names = list(targets)
    while sum(done.values()) < count:
        name = names[sum(done.values()) % len(names)]
        data = targets[name].file.read_bytes()
        damages = (
            (flip, flip, cut, shift)
            if not name.endswith((".json", ".yaml"))
            else (flip, cut, shift, *[change_field] * 3)
        )
        damage = rng.choice(damages)
        changed = damage(data, rng)
        if changed == data:
            continue
        done[f"{name} {damage.__name__}"] += 1
        if wrong := fault(targets[name], changed, expected[name][1]):
            faults.append(f"{name}, {damage.__name__}, number {sum(done.values())}: {wrong}")
    return done, faults


@pytest.mark.parametrize(
    "count", [30, pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.timeout(7200)])], ids=["few", "soak"]
)
def test_damage_is_told_in_one_line_or_changes_nothing(targets: dict[str, Target], count: int) -> None:
    done, faults = campaign(targets, count, seed=count)
    print(*(f"{number:6} {what}" for what, number in sorted(done.items())), sep="\n")
    assert not faults, f"{len(faults)} of {count} answered wrongly:\n" + "\n".join(faults[:200])
