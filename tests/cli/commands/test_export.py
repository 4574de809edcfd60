import json
from pathlib import Path

import pytest
import torch

from segstream.cli.commands.export import export
from segstream.model.checkpoint import Final, save_final
from segstream.model.networks.build import build
from segstream.shards.errors import DataError, UsageError
from tests.model.toy import TINY

RECIPE = {"eval": {"crop": 33}}


@pytest.fixture
def final(tmp_path: Path) -> Path:
    net = build("hrnet-tiny", 3, **TINY)
    meta = {"arch": "hrnet-tiny", "num_classes": 3, "options": TINY, "recipe": RECIPE, "taxonomy": {"name": "toy"}}
    save_final(tmp_path / "final.pt", Final(identity={}, meta=meta, step=1, weights=net.state_dict()))
    return tmp_path / "final.pt"


def test_the_recipes_crop_is_the_size_and_the_report_is_json(final: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = final.parent / "net.pt2"
    export(final, out, json=True)
    report = json.loads(capsys.readouterr().out)
    assert report["size_hw"] == [33, 33]
    assert report["bytes"] == out.stat().st_size
    assert report["difference"] < 1e-5
    extra = {"segstream.json": ""}
    program = torch.export.load(out, extra_files=extra)
    assert json.loads(extra["segstream.json"])["taxonomy"] == {"name": "toy"}
    assert program.module()(torch.zeros(1, 3, 33, 33)).shape == (1, 3, 33, 33)


def test_weights_of_others_are_exported_by_architecture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = build("hrnet-tiny", 4).state_dict()
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}}, tmp_path / "w.pth")
    export(tmp_path / "w.pth", tmp_path / "net.pt2", size="17x25")  # recognised
    assert "net.pt2" in capsys.readouterr().err
    program = torch.export.load(tmp_path / "net.pt2")
    assert program.module()(torch.zeros(1, 3, 17, 25)).shape == (1, 4, 17, 25)
    trunk = {name: tensor for name, tensor in weights.items() if not name.startswith("last_layer")}
    torch.save(trunk, tmp_path / "imagenet.pth")
    with pytest.raises(UsageError, match="is the last of a network that segments"):
        export(tmp_path / "imagenet.pth", tmp_path / "no.pt2", size="17", arch="hrnet-tiny", classes=4)
    with pytest.raises(UsageError, match="names no crop; give --size"):
        export(tmp_path / "w.pth", tmp_path / "no.pt2", arch="hrnet-tiny", classes=4)


def test_bad_use_is_said_before_anything_is_read(tmp_path: Path) -> None:
    missing = tmp_path / "none.pt"
    with pytest.raises(UsageError, match=r"ends in .onnx or .pt2"):
        export(missing, tmp_path / "net.tflite")
    for size in ("0", "12x", "a", "-5", "3x4x5"):
        with pytest.raises(UsageError, match="give one number or HEIGHTxWIDTH"):
            export(missing, tmp_path / "net.pt2", size=size)
    with pytest.raises(DataError, match=r"none.pt: no such file"):
        export(missing, tmp_path / "net.pt2")
