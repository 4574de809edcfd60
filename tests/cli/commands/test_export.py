import json

import pytest
import torch

from segstream.cli.commands.export import export
from segstream.model.networks.build import build
from segstream.shards.errors import DataError, UsageError
from tests.model.toy import TINY, save_net, save_published


@pytest.fixture
def final(tmp_path):
    return save_net(tmp_path / "final.pt", build("hrnet-tiny", 3, **TINY), eval={"crop": 33})


def test_the_recipes_crop_is_the_size_and_the_report_is_json(final, capsys):
    out = final.parent / "net.pt2"
    export(final, out, json=True)
    report = json.loads(capsys.readouterr().out)
    assert report["size_hw"] == [33, 33]
    assert report["bytes"] == out.stat().st_size
    assert report["difference"] < 1e-5
    extra = {"segstream.json": ""}
    program = torch.export.load(out, extra_files=extra)
    assert json.loads(extra["segstream.json"])["taxonomy"]["name"] == "toy"
    assert program.module()(torch.zeros(1, 3, 33, 33)).shape == (1, 3, 33, 33)


def test_weights_of_others_are_exported_by_architecture(tmp_path, capsys, monkeypatch):
    asked = []

    def write(net, out, size_hw, *, meta):
        asked.append((net(torch.zeros(1, 3, *size_hw)).shape, meta))
        return float(out.write_bytes(b"program"))

    monkeypatch.setattr("segstream.model.inference.export.export", write)
    save_published(tmp_path / "w.pth", 4)
    export(tmp_path / "w.pth", tmp_path / "net.pt2", size="17x25")  # recognised
    assert asked == [((1, 4, 17, 25), {"arch": "hrnet-tiny", "num_classes": 4})]
    assert "net.pt2" in capsys.readouterr().err
    weights = build("hrnet-tiny", 4).state_dict()
    torch.save({n: t for n, t in weights.items() if not n.startswith("last_layer")}, tmp_path / "imagenet.pth")
    no_head = "is the last of a network that segments"
    for name, size, says in (("imagenet", "17", no_head), ("w", None, "no crop; give --size")):
        with pytest.raises(UsageError, match=says):
            export(tmp_path / f"{name}.pth", tmp_path / "no.pt2", size=size, arch="hrnet-tiny", classes=4)


def test_bad_use_is_said_before_anything_is_read(tmp_path):
    missing = tmp_path / "none.pt"
    with pytest.raises(UsageError, match=r"ends in .onnx or .pt2"):
        export(missing, tmp_path / "net.tflite")
    for size in ("0", "12x", "a", "-5", "3x4x5"):
        with pytest.raises(UsageError, match="give one number or HEIGHTxWIDTH"):
            export(missing, tmp_path / "net.pt2", size=size)
    with pytest.raises(DataError, match=r"none.pt: no such file"):
        export(missing, tmp_path / "net.pt2")
