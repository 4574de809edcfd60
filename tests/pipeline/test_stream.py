"""From files on disk through conversion to batches."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from segstream.pipeline import AugmentConfig, DataConfig, Loader, LoaderConfig
from segstream.shards import open_shards
from segstream.shards.convert.convert import ConvertRequest, convert
from segstream.shards.errors import DataError
from tests.pipeline.fakes import textured

AS_STORED = AugmentConfig(short_side=None, crop=(40, 56), scale=(1.0, 1.0), rotate_p=0, blur_p=0, flip_p=0)
CLASSES = [{"name": "ground", "universal": "terrain"}, {"name": "tree", "universal": "vegetation"}, {"name": "thing"}]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two own datasets of 23 and 9 samples, in shards of 4, under one root."""
    folder = tmp_path_factory.mktemp("stream")
    for seed, (name, count) in enumerate({"garden": 23, "park": 9}.items()):
        raw = folder / "raw" / name
        for i in range(count):
            image, label = textured(np.random.default_rng((seed, i)), (40, 56), 4)
            for part, array in (("images", image), ("labels", np.where(label == 3, 255, label).astype(np.uint8))):
                (raw / part).mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(raw / part / f"{i:03d}.png"), array[..., ::-1] if array.ndim == 3 else array)
        text = {
            "name": name,
            "root": str(raw),
            "splits": {"train": {"images": "images/*.png", "labels": "labels/*.png"}},
            "classes": CLASSES,
            "ignore": [255],
        }
        description = folder / f"{name}.yaml"
        description.write_text(yaml.safe_dump(text))
        convert(ConvertRequest(dataset=str(description), split="train", out=str(folder / "shards"), shard_samples=4))
    return folder


def loader(root: Path, mix, taxonomy="native", augment=AS_STORED, batch=4, **options):
    data = DataConfig(shards=str(root / "shards"), mix=mix, taxonomy=taxonomy, window=2)
    return Loader(data, augment, LoaderConfig(batch=batch, threads=2), seed=1, **options)


def test_an_epoch_of_a_converted_dataset_is_every_sample_once_with_its_own_label(root):
    with loader(root, {"garden": 1}, batch=1) as stream:
        batches = list(stream.batches(0, 46))
        assert stream.taxonomy.classes == ("ground", "tree", "thing")
    first, second = [batch.keys for batch in batches[:23]], [batch.keys for batch in batches[23:]]
    assert len(set(first)) == 23
    assert set(first) == set(second)
    assert first != second
    for batch in batches:
        stem = batch.keys[0].rsplit("/", 1)[-1]
        raw = root / "raw" / "garden"
        label = cv2.imread(str(raw / "labels" / f"{stem}.png"), cv2.IMREAD_UNCHANGED)
        image = cv2.imread(str(raw / "images" / f"{stem}.png"), cv2.IMREAD_COLOR_RGB)
        assert (batch.labels[0].numpy() == label).all()
        assert np.abs(batch.images[0].numpy().transpose(1, 2, 0) - image.astype(float)).mean() < 4  # JPEG


def test_a_mix_of_converted_datasets_keeps_its_proportions(root):
    with loader(root, {"garden": 3, "park": 1}, taxonomy="universal") as stream:
        batches = list(stream.batches(0, 9))
        universal = stream.taxonomy
    counts = Counter(i for batch in batches for i in batch.dataset_ids.tolist())
    assert counts == {0: 27, 1: 9}
    seen = {universal.classes[i] for batch in batches for i in batch.labels.unique().tolist() if i != 255}
    assert seen == {"terrain", "vegetation"}


def test_the_fingerprint_names_the_data(root):
    with loader(root, {"garden": 1}) as stream:
        (entry,) = stream.fingerprint["mix"]
    digest = open_shards(root / "shards" / "garden" / "train").manifest.digest
    assert entry == {"dataset": "garden", "weight": "1", "manifest": digest}


def test_damage_after_opening_is_an_error_naming_the_sample(root, tmp_path):
    source, copy = root / "shards" / "park" / "train", tmp_path / "shards" / "park" / "train"
    copy.mkdir(parents=True)
    for file in source.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    tar = next(iter(sorted(copy.glob("*.tar"))))
    data = bytearray(tar.read_bytes())
    for at in range(600, len(data), 512):
        data[at] ^= 1
    tar.write_bytes(data)
    with loader(tmp_path, {"park": 1}, batch=9) as stream, pytest.raises(DataError, match=rf"{tar.name}: .*checksum"):
        next(stream.batches(0, 1))
