"""Programs that know nothing of ours must read the shards."""

import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import webdataset as wds
from PIL import Image

from segstream.shards.convert.convert import convert
from tests.shards import trees
from tests.shards.convert.test_convert import members


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.fixture
def city(tmp_path):
    """Keys with folders, JPEG images that are not the source's bytes."""
    raw = trees.cityscapes(tmp_path / "raw")
    convert(dataset="cityscapes-19", split="train", raw=raw, out=str(tmp_path / "out"), shard_samples=1)
    return tmp_path / "out" / "cityscapes-19" / "train"


@pytest.mark.parametrize("which", ["ade", "city"])
def test_webdataset(request, which):
    folder = request.getfixturevalue(which)
    stored = members(folder)
    urls = [str(p) for p in sorted(folder.glob("*.tar"))]
    found = {}
    for sample in wds.WebDataset(urls, shardshuffle=False):
        for suffix in ("jpg", "json", "native.png", "universal.png"):
            found[f"{sample['__key__']}.{suffix}"] = sample[suffix]
    assert found == stored
    decoded = list(wds.WebDataset(urls, shardshuffle=False).decode("rgb8").to_tuple("__key__", "jpg", "json"))
    for key, image, info in decoded:
        assert np.abs(image.astype(int) - pixels(stored[f"{key}.jpg"])).max() <= 1
        assert info == json.loads(stored[f"{key}.json"])


def test_hugging_face_datasets(ade, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    stored = members(ade)
    urls = [str(p) for p in sorted(ade.glob("*.tar"))]
    loaded = datasets.load_dataset(
        "webdataset", data_files={"train": urls}, split="train", cache_dir=str(tmp_path / "hf")
    )
    assert [row["__key__"] for row in loaded] == [f"ADE_train_{n:08d}" for n in range(1, 6)]
    for row in loaded:
        key = row["__key__"]
        assert np.array_equal(np.asarray(row["jpg"]), pixels(stored[f"{key}.jpg"]))
        for member in ("native.png", "universal.png"):
            assert np.array_equal(np.asarray(row[member]), pixels(stored[f"{key}.{member}"]))
        assert row["json"] == json.loads(stored[f"{key}.json"])


@pytest.mark.parametrize("which", ["ade", "city"])
def test_dali(request, which):
    pytest.importorskip("nvidia.dali", reason="nvidia-dali is not installed")
    from nvidia.dali import fn, pipeline_def, types

    folder = request.getfixturevalue(which)
    stored = members(folder)

    @pipeline_def(batch_size=1, num_threads=1, device_id=None)
    def read():
        jpg, native, info = fn.readers.webdataset(
            paths=[str(p) for p in sorted(folder.glob("*.tar"))],
            ext=["jpg", "native.png", "json"],
            missing_component_behavior="error",
        )
        return fn.decoders.image(jpg), fn.decoders.image(native, output_type=types.GRAY), info

    pipe = read()
    pipe.build()
    keys = sorted(name.removesuffix(".json") for name in stored if name.endswith(".json"))
    for key in keys:
        image, native, info = (np.asarray(out.at(0)) for out in pipe.run())
        assert json.loads(info.tobytes()) == json.loads(stored[f"{key}.json"])
        assert np.abs(image.astype(int) - pixels(stored[f"{key}.jpg"])).max() <= 2
        assert np.array_equal(native[..., 0], pixels(stored[f"{key}.native.png"]))


@pytest.mark.parametrize("library", ["webdataset", "datasets", "megatron.energon", "litdata"])
def test_what_the_document_shows(ade, tmp_path, monkeypatch, library):
    """As printed but for the folders; it prints the key and two facts of every sample."""
    pytest.importorskip(library, reason=f"{library} is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    text = (Path(__file__).parents[2] / "docs" / "shard-format.md").read_text(encoding="utf-8")
    wanted = library.split(".")[-1]
    (code,) = (
        c
        for c in re.findall(r"^```\w+\n(.*?)^```", text, re.M | re.S)
        if re.search(rf"^(import|from)? ?{wanted}", c, re.M)
    )
    for old, new in {
        "data/shards/ade20k-150/train": str(ade),
        "000078": "000002",
        "data/litdata": str(tmp_path),
    }.items():
        code = code.replace(old, new)
    if wanted == "energon":
        _, *arguments = shlex.split(code)
        program = [sys.executable, "-m", "megatron.energon.cli.main", *arguments]
    else:
        (tmp_path / "shown.py").write_text(code)
        program = [sys.executable, str(tmp_path / "shown.py")]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    sizes = {"webdataset": "(24, 32, 3) (24, 32)", "datasets": "(32, 24) L"}
    if wanted in sizes:
        assert done.stdout.splitlines() == [f"ADE_train_{n:08d} {sizes[wanted]}" for n in range(1, 6)]
    if wanted == "energon":
        assert (ade / ".nv-meta").is_dir()
    if wanted == "litdata":
        assert len(pytest.importorskip("litdata").StreamingDataset(str(tmp_path / "train"))) == 5
