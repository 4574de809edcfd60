"""Files that do not say what they are of."""

import numpy as np
import pytest
import torch

from segstream.model.checkpoint import Final, save_final
from segstream.model.networks.build import build
from segstream.model.networks.weights import load_any, recognised
from segstream.shards.errors import DataError, UsageError
from tests.model.plain import published
from tests.model.toy import CLASSES, META, TINY


@pytest.mark.parametrize(
    ("names", "arch", "classes"),
    [
        ("mseg_hrnet_w48_194.tsv", "hrnet-w48", 194),
        ("mseg_pspnet50_194.tsv", "pspnet-50", 194),
        ("mseg_pspnet101_194.tsv", "pspnet-101", 194),
        ("hmsa_mscale_ocr_19.tsv", "hmsa", 19),
        ("hmsa_ocrnet_19.tsv", "hrnet-ocr", 19),
    ],
)
def test_published_names_and_shapes_say_which_network(names, arch, classes):
    rows = [
        (name, [] if shape in ("", "scalar") else [int(n) for n in shape.split("x")])
        for name, shape, _ in published(names)
    ]
    assert recognised("x", {name: torch.empty(shape, device="meta") for name, shape in rows}, classes) == arch


@pytest.mark.parametrize(
    ("names", "arch", "kind", "taxonomy"),
    [
        ("mseg_hrnet_w48_194.tsv", "hrnet-w48", "MSeg checkpoint", "universal"),
        ("hmsa_mscale_ocr_19.tsv", "hmsa", "HMSA checkpoint", "cityscapes-19"),
    ],
)
def test_files_of_the_published_layout_are_loaded(tmp_path, names, arch, kind, taxonomy):
    one = torch.full((), 0.25)  # expanded: a tensor of any shape takes four bytes on the disk
    count = torch.zeros((), dtype=torch.int64)
    weights = {
        f"module.{name}": count if kind_ == "int64" else one.expand([int(n) for n in shape.split("x")])
        for name, shape, kind_ in published(names)
    }
    torch.save({"epoch": 1, "arch": "x", "state_dict": weights, "optimizer": {"state": {}}}, tmp_path / "a.pth")
    net, meta = load_any(tmp_path / "a.pth")
    assert (meta["arch"], meta["kind"], meta["taxonomy"]["name"]) == (arch, kind, taxonomy)
    assert all((tensor == 0.25).all() for tensor in net.state_dict().values() if tensor.is_floating_point())


def write(path, arch, classes, **changes):
    net = build(arch, classes, seed=7)
    weights = {f"module.{name}": tensor for name, tensor in net.state_dict().items()} | changes
    torch.save({"epoch": 2, "state_dict": weights, "mean_iu": np.float64(0.5)}, path)
    return net.eval()


@pytest.mark.parametrize(("classes", "taxonomy"), [(194, "universal"), (316, "naive"), (5, None)])
def test_a_published_file_becomes_its_network(tmp_path, classes, taxonomy):
    expected = write(tmp_path / "a.pth", "hrnet-tiny", classes)
    net, meta = load_any(tmp_path / "a.pth")
    assert (meta["arch"], meta["num_classes"], meta.get("taxonomy", {}).get("name")) == (
        "hrnet-tiny",
        classes,
        taxonomy,
    )
    image = torch.randn(1, 3, 32, 32)
    assert not net.training
    assert torch.equal(net(image), expected(image))


def test_our_own_file_says_what_it_is(tmp_path):
    weights = build("hrnet-tiny", 3, **TINY).state_dict()
    save_final(tmp_path / "final.pt", Final(identity={}, meta=META, step=1, weights=weights))
    net, meta = load_any(tmp_path / "final.pt")
    assert meta == META
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in weights.items())
    assert len(CLASSES) == load_any(tmp_path / "final.pt", num_classes=3)[1]["num_classes"]
    with pytest.raises(DataError, match="has 3 classes, not 4"):
        load_any(tmp_path / "final.pt", num_classes=4)


def test_what_cannot_be_used_is_refused(tmp_path):
    write(tmp_path / "a.pth", "hrnet-tiny", 5)
    with pytest.raises(DataError, match="has 5 classes, not 194"):
        load_any(tmp_path / "a.pth", num_classes=194)
    with pytest.raises(DataError, match="does not fit this network"):
        load_any(tmp_path / "a.pth", arch="hrnet-w18-small")
    with pytest.raises(UsageError, match="did you mean 'hrnet-tiny'"):
        load_any(tmp_path / "a.pth", arch="hrnet-tini")
    write(tmp_path / "b.pth", "hrnet-tiny", 5, **{"module.conv1.weight": torch.zeros(7, 3, 3, 3)})
    with pytest.raises(DataError, match=r"nearest is hrnet-tiny: 1 wrongly shaped \(conv1.weight: 7x3x3x3 in the file"):
        load_any(tmp_path / "b.pth")
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "c.pth")
    with pytest.raises(UsageError, match="without a head"):
        load_any(tmp_path / "c.pth")
    with pytest.raises(DataError, match="no such file"):
        load_any(tmp_path / "none.pth")
