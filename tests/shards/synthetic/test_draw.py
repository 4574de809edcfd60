import hashlib
import json
import sys
from pathlib import Path

import pytest

from segstream.shards.errors import DataError, UsageError
from segstream.shards.synthetic import DATASETS, DEMO, draw
from tests.shards.synthetic.truth import tiny


def digests(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("dataset", ["coco-panoptic-133", "wilddash2-19"])
def test_same_bytes_whatever_the_number_of_workers(tmp_path: Path, dataset: str) -> None:
    for workers in (1, 2):
        draw(tmp_path / str(workers), dataset, train=17, val=2, seed=5, workers=workers)
    assert digests(tmp_path / "1") == digests(tmp_path / "2")


def test_a_picture_depends_on_seed_and_split_and_not_on_how_many_others_are_drawn(tmp_path: Path) -> None:
    for name, seed, more in (("few", 5, 0), ("more", 5, 2), ("other", 6, 0)):
        draw(tmp_path / name, "sunrgbd-37", train=2 + more, val=1 + more, seed=seed, workers=1)
    few, more_of_them = digests(tmp_path / "few"), digests(tmp_path / "more")
    del few["sunrgbd-37/world.json"]
    assert len(few) == 6
    assert few.items() <= more_of_them.items()
    images = [path.read_bytes() for name in ("more", "other") for path in (tmp_path / name).rglob("*.jpg")]
    assert len(set(images)) == len(images) == 10


def test_drawing_again_mends_an_interrupted_run(tmp_path: Path) -> None:
    draw(tmp_path, "voc2012", train=0, val=3, seed=1, workers=1)
    whole = digests(tmp_path)
    assert not [name for name in whole if "part" in name]
    assert json.loads((tmp_path / "voc2012/world.json").read_text()) == {
        "dataset": "voc2012", "train": 0, "val": 3, "seed": 1
    }  # fmt: skip
    victims = sorted((tmp_path / "voc2012").rglob("*.*g"))[:2]
    victims[0].unlink()
    victims[1].write_bytes(b"half")
    draw(tmp_path, "voc2012", train=0, val=3, seed=1, workers=1)
    assert digests(tmp_path) == whole


@pytest.mark.parametrize(("dataset", "train", "val", "total"), [("camvid-11", 17, 1, 18), ("wilddash-19", 5, 2, 2)])
def test_progress_counts_pictures_of_the_splits_there_are(
    tmp_path: Path, dataset: str, train: int, val: int, total: int
) -> None:
    seen: list[tuple[int, int]] = []
    with tiny():
        draw(tmp_path, dataset, train=train, val=val, seed=1, workers=1, progress=lambda *counts: seen.append(counts))
    assert {asked for _, asked in seen} == {total}
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (total, total)


def test_a_folder_of_other_data_or_another_world_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "camvid-11" / "701_StillsRaw_full" / "0001TP_006690.png"
    precious.parent.mkdir(parents=True)
    precious.write_bytes(b"a real photograph")
    with pytest.raises(DataError, match="other data; remove it or choose another"):
        draw(tmp_path, "camvid-11", train=1, val=0, seed=1, workers=1)
    draw(tmp_path, "sunrgbd-37", train=1, val=0, seed=1, workers=1)
    before = digests(tmp_path)
    with pytest.raises(DataError, match="'seed': 1"):
        draw(tmp_path, "sunrgbd-37", train=1, val=0, seed=2, workers=1)
    assert digests(tmp_path) == before


@pytest.mark.parametrize(
    ("dataset", "split", "count"),
    [("camvid-11", "val", 101), ("kitti-19", "train", 150), ("wilddash-19", "val", 70), ("scannet-20", "val", 5436)],
)
def test_more_pictures_than_the_release_has(tmp_path: Path, dataset: str, split: str, count: int) -> None:
    with pytest.raises(DataError, match=rf"has {count} images, {count + 1} were asked for"):
        draw(tmp_path, dataset, **{"train": 0, "val": 0, split: count + 1}, seed=1, workers=1)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_drawn_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="did you mean 'camvid-11'"):
        draw(tmp_path, "camvid", train=1, val=1, seed=1, workers=1)
    with pytest.raises(DataError, match="from 0 up"):
        draw(tmp_path, "camvid-11", train=-1, val=1, seed=1, workers=1)
    (tmp_path / "voc2012").write_text("a file where the folder should go")
    with pytest.raises(DataError, match="cannot be written"):
        draw(tmp_path, "voc2012", train=0, val=1, seed=1, workers=1)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with tiny(), pytest.raises(DataError, match=r"segstream\[mat\]"):
        draw(tmp_path, "pascal-context-60", train=1, val=0, seed=1, workers=1)


def test_the_demo_draws_seven() -> None:
    assert len(DEMO) == 7
    assert set(DEMO) < set(DATASETS)
