import json

import numpy as np
import pytest
import torch

from segstream.model.inference.export import export as write
from segstream.model.networks.build import build
from segstream.model.networks.ocr import OCRHead
from segstream.shards.errors import DataError
from tests.model.plain import NETS, images, shaken

META = {"arch": "some", "taxonomy": {"classes": ["a", "b", "c"]}}


def net_of(arch):
    return shaken(Head() if arch == "head" else build(arch, 3, **NETS[arch])).eval()


class Head(torch.nn.Module):
    """Object attention on the pixels themselves: what of the larger networks is hard to convert, in seconds."""

    def __init__(self):
        super().__init__()
        self.head = OCRHead(3, 8, 4, 3)

    def forward(self, images):
        return self.head(images)[0]


SLOW = [pytest.param(arch, marks=pytest.mark.soak) for arch in ("hrnet-tiny", "hrnet-ocr", "hmsa")]


@pytest.mark.parametrize("arch", ["pspnet-50", "head", *SLOW])
def test_onnxruntime_gives_what_torch_gives(tmp_path, arch):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    net = net_of(arch)
    path = tmp_path / "deep" / "net.onnx"
    assert write(net, path, (41, 49), meta=META) < 1e-4
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["net.onnx"]
    session = onnxruntime.InferenceSession(path)
    for batch in (1, 4):
        x = images(batch, (41, 49), seed=1)
        (got,) = session.run(["logits"], {"images": x.numpy()})
        with torch.no_grad():
            expected = net(x).numpy()
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    stored = session.get_modelmeta().custom_metadata_map
    assert json.loads(stored["taxonomy"]) == META["taxonomy"]
    assert json.loads(stored["mean_rgb"]) == [123.675, 116.28, 103.53]
    assert json.loads(stored["size_hw"]) == [41, 49]


def test_an_exported_program_gives_the_same(tmp_path):
    net = net_of("pspnet-50")
    write(net, tmp_path / "net.pt2", (33, 40), meta=META)
    extra = {"segstream.json": ""}
    program = torch.export.load(tmp_path / "net.pt2", extra_files=extra).module()
    x = images(1, (33, 40), seed=1)
    with torch.no_grad():
        torch.testing.assert_close(program(x), net(x))
    assert json.loads(extra["segstream.json"])["arch"] == "some"


class Shifty(torch.nn.Module):
    """What it computes while it is exported is not what it computes afterwards."""

    def forward(self, x):
        return x + 1 if torch.compiler.is_exporting() else x


def test_a_file_that_differs_from_its_network_is_not_kept(tmp_path):
    with pytest.raises(DataError, match=r"net.pt2: logits differ from the network's by"):
        write(Shifty(), tmp_path / "net.pt2", (9, 9), meta={})
    assert list(tmp_path.iterdir()) == []


def test_folders_and_missing_packages_are_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"net.pt2: cannot be written"):
        write(torch.nn.Identity(), tmp_path / "file" / "net.pt2", (9, 9), meta={})
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(DataError, match=r"not installed; pip install 'segstream\[export\]'"):
        write(torch.nn.Conv2d(3, 2, 1), tmp_path / "net.onnx", (9, 9), meta={})
