"""Files that people have, drawn from small networks and from the published names."""

import argparse
import hashlib
import warnings

import numpy as np
import pytest
import torch

from segstream.model.checkpoint import Checkpoint, Final, save_file
from segstream.model.networks.build import build
from segstream.model.networks.weights import load_any, load_weights
from segstream.shards.errors import DataError, UsageError
from tests.model.plain import NETS, published
from tests.model.toy import META, TINY

STEM = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3", "7": "bn3"}


def net_of(arch, classes=3, seed=0):
    return build(arch, classes, seed=seed, **NETS[arch])


def shaken(arch, classes=3, seed=1):
    """Weights of which no tensor is what a fresh network has."""
    generator, own = torch.Generator().manual_seed(seed), net_of(arch, classes, seed=5).state_dict()
    drawn = {n: torch.rand(t.shape, generator=generator) + 0.1 if t.is_floating_point() else 7 for n, t in own.items()}
    return {name: tensor + drawn[name] for name, tensor in own.items()}


def wrapped(weights, **more):
    """As MSeg and HMSA write their checkpoints."""
    return {"state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}, **more}


def equal(net, weights):
    own = net.state_dict()
    return all(torch.equal(own[name], tensor) for name, tensor in weights.items())


def trunk(arch, weights):
    """An ImageNet file as the backbone's authors write it: (weights by their names, by ours)."""
    classifier = {"classifier.weight": torch.ones(10, 4), "classifier.bias": torch.ones(10)}
    if arch == "pspnet-50":
        ours = {n: t for n, t in weights.items() if n.startswith("layer")}
        theirs = {}
        for name, tensor in ours.items():
            first, second, *rest = name.split(".")
            theirs[".".join([STEM[second], *rest]) if first == "layer0" else name] = tensor
        return theirs | {n.replace("classifier", "fc"): t for n, t in classifier.items()}, ours
    heads = ("last_layer", "ocr", "scale_attn")
    ours = {n: t for n, t in weights.items() if not n.startswith(heads)}
    theirs = {n.removeprefix("backbone."): t for n, t in ours.items()}
    more = {f"{n}.0.weight": torch.ones(2) for n in ("incre_modules.0", "downsamp_modules.1", "final_layer")}
    return theirs | more | classifier, ours


@pytest.mark.parametrize("arch", NETS)
@pytest.mark.parametrize("zipped", [True, False])
def test_published_checkpoints_are_loaded(tmp_path, arch, zipped):
    weights = shaken(arch)
    state = {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
    more = {"current_iter": 12, "max_iter": 15, "mean_iu": np.float64(0.5), "command": "--x 1"}
    content = wrapped(weights, epoch=3, optimizer=state, **more)
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    net = net_of(arch)
    loaded = load_weights(net, str(tmp_path / "w.pth"))
    assert equal(net, weights)
    assert (loaded.fresh, loaded.num_tensors) == ((), len(weights))
    assert loaded.kind == ("HMSA checkpoint" if "ocr" in arch or arch == "hmsa" else "MSeg checkpoint")
    assert loaded.sha256 == hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", ["final", "progress"])
def test_our_own_files_are_loaded(tmp_path, kind):
    weights = shaken("hrnet-tiny")
    common = {"identity": {"seed": 1}, "step": 4, "weights": weights}
    if kind == "final":
        save_file(tmp_path / "a.pt", Final(meta={"arch": "hrnet-tiny"}, **common))
    else:
        save_file(tmp_path / "a.pt", Checkpoint(optimizer={"state": {}}, **common))
    net = net_of("hrnet-tiny")
    assert load_weights(net, tmp_path / "a.pt").kind == f"our own {kind}"
    assert equal(net, weights)


@pytest.mark.parametrize("arch", NETS)
@pytest.mark.parametrize("wrap", [dict, wrapped])
def test_imagenet_backbones_fill_all_but_the_heads(tmp_path, arch, wrap):
    theirs, ours = trunk(arch, shaken(arch))
    torch.save(wrap(theirs), tmp_path / "imagenet.pth")
    net, untouched = net_of(arch), net_of(arch).state_dict()
    loaded = load_weights(net, tmp_path / "imagenet.pth")
    assert loaded.kind.startswith("ImageNet backbone of ")
    assert equal(net, ours)
    assert loaded.num_tensors == len(ours)
    heads = {name: tensor for name, tensor in untouched.items() if name not in ours}
    assert heads
    assert equal(net, heads)
    assert set(loaded.fresh) == {name for name in heads if not name.endswith("num_batches_tracked")}
    drop = ("classifier", "incre_modules", "downsamp_modules", "final_layer", "fc.")  # not in old files, nor counters
    old = {n: t for n, t in theirs.items() if not n.startswith(drop) and not n.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "imagenet.pth")
    net = net_of(arch)
    load_weights(net, tmp_path / "imagenet.pth")
    assert equal(net, {n: t for n, t in ours.items() if not n.endswith("num_batches_tracked")})


def published_weights(table):
    """Every number 0.25, or 0 if whole: expanded, so that a tensor of any shape takes four bytes on the disk."""
    one, count = torch.full((), 0.25), torch.zeros((), dtype=torch.int64)
    return {
        name: count if kind == "int64" else one.expand([int(side) for side in shape.split("x")])
        for name, shape, kind in published(table)
    }


@pytest.mark.parametrize(
    ("table", "arch", "tensors"),
    [("mseg_hrnet_w48_194.tsv", "hmsa", 1830), ("mseg_pspnet101_194.tsv", "pspnet-101", 636)],
)
def test_imagenet_files_of_the_published_sizes_fit(tmp_path, table, arch, tensors):
    theirs, ours = trunk("pspnet-50" if "pspnet" in arch else arch, published_weights(table))
    assert len(ours) == tensors
    torch.save(theirs, tmp_path / "w.pth")
    with torch.device("meta"):
        net = build(arch, 7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert load_weights(net, tmp_path / "w.pth").num_tensors == tensors


def test_a_mismatch_lists_everything_by_kind_and_copies_nothing(tmp_path):
    weights = shaken("hrnet-tiny", classes=5)
    del weights["conv1.weight"], weights["bn2.running_mean"]
    weights["neck.weight"] = torch.ones(3)
    torch.save({"state_dict": weights}, tmp_path / "w.pth")
    net, before = net_of("hrnet-tiny"), net_of("hrnet-tiny").state_dict()
    with pytest.raises(DataError) as caught:
        load_weights(net, tmp_path / "w.pth")
    for part in (
        "MSeg checkpoint ('state_dict') does not fit this network",
        "2 missing (conv1.weight, bn2.running_mean)",
        "1 unexpected (neck.weight)",
        "2 wrongly shaped (last_layer.3.weight: 5x22x1x1 in the file, 3x22x1x1 in the network, last_layer.3",
    ):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert equal(net, before)


@pytest.mark.parametrize("arch", ["hrnet-tiny", "pspnet-50", "hmsa"])
def test_a_backbone_must_match_to_the_last_tensor(tmp_path, arch):
    theirs, _ = trunk(arch, shaken(arch))
    torch.save(theirs, tmp_path / "whole.pth")
    renamed = {"layer1.0.bn2.bias": "layer1.0.bn2.shift"}
    torch.save({renamed.get(n, n): t for n, t in theirs.items()}, tmp_path / "w.pth")
    with pytest.raises(DataError, match=r"1 missing \(\S*layer1.0.bn2.bias\); 1 unexpected \(\S*layer1.0.bn2.shift\)"):
        load_weights(net_of(arch), tmp_path / "w.pth")
    other = "hmsa" if arch == "pspnet-50" else "pspnet-50"  # of another family
    with pytest.raises(DataError, match=r"backbone of .* which this network is not built on"):
        load_weights(net_of(other), tmp_path / "whole.pth")


def test_a_head_for_other_classes_is_left_fresh_on_request_only(tmp_path):
    weights = shaken("hmsa", classes=5)
    torch.save(wrapped(weights), tmp_path / "w.pth")
    net, before = net_of("hmsa"), net_of("hmsa").state_dict()
    fresh = ("ocr.cls_head", "ocr.aux_head.2")
    loaded = load_weights(net, tmp_path / "w.pth", fresh=fresh)
    assert set(loaded.fresh) == {f"{part}.{kind}" for part in fresh for kind in ("weight", "bias")}
    assert equal(net, {n: t for n, t in weights.items() if n not in loaded.fresh})
    assert equal(net, {n: t for n, t in before.items() if n in loaded.fresh})
    for part, says in (("ocr.cls", "did you mean 'ocr.cls_head'"), ("x", "its parts are backbone, ocr, scale_attn")):
        with pytest.raises(DataError, match=f"'{part}' is no part of this network; {says}"):
            load_weights(net, tmp_path / "w.pth", fresh=(part,))
    assert load_weights(net_of("hmsa"), tmp_path / "w.pth", fresh="auto").fresh == loaded.fresh


SUBSET = {n: t for n, t in shaken("hrnet-tiny").items() if not n.startswith("stage4.0.branches.3")}


@pytest.mark.parametrize(
    ("arch", "content", "fresh", "unused"),
    [
        ("hmsa", wrapped(shaken("hmsa")), (), ()),
        ("hmsa", wrapped(shaken("hrnet-tiny")), ("ocr.", "scale_attn."), ("last_layer.",)),  # the same trunk, no prefix
        ("hrnet-tiny", shaken("hmsa", classes=5), ("last_layer.",), ()),  # other parts lie beside the place
        ("pspnet-50", trunk("pspnet-50", shaken("pspnet-50"))[0], ("ppm.", "cls.", "aux."), ()),
        (
            "hrnet-tiny",
            {"small": SUBSET, "whole": shaken("hrnet-tiny", classes=5)},
            ("last_layer.3.",),
            ("last_layer.3.",),
        ),
    ],
)
def test_auto_takes_what_fits_by_name_and_shape_and_says_the_rest(tmp_path, arch, content, fresh, unused):
    torch.save(content, tmp_path / "w.pth")
    net, before = net_of(arch), net_of(arch).state_dict()
    loaded = load_weights(net, tmp_path / "w.pth", fresh="auto")
    kept = {n: t for n, t in before.items() if fresh and n.startswith(fresh) and not n.endswith("num_batches_tracked")}
    assert set(loaded.fresh) == set(kept)
    assert equal(net, kept)
    assert all(name.startswith(unused) for name in loaded.unused)
    assert bool(loaded.unused) == bool(unused)
    changed = [n for n, t in net.state_dict().items() if not torch.equal(t, before[n])]
    assert loaded.num_tensors == len(changed) == len(before) - len([n for n in before if fresh and n.startswith(fresh)])
    assert len(loaded.summary) < 400


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            SUBSET,
            r"not fit the trunk of this network: \d+ missing \(stage4.*, and \d+ more\). Build the network that has",
        ),
        (build("hrnet-tiny", 3).state_dict(), r"trunk of this network: \d+ wrongly shaped \(conv1.weight: 32x3x3x3"),
        (shaken("pspnet-50"), r"the trunk of this network: \d+ missing \(conv1.weight, bn1.weight, bn1.bias, and"),
    ],
)
def test_auto_is_no_start_from_less_than_the_trunk(tmp_path, content, text):
    torch.save(content, tmp_path / "w.pth")
    net, before = net_of("hrnet-tiny"), net_of("hrnet-tiny").state_dict()
    with pytest.raises(DataError, match=text):
        load_weights(net, tmp_path / "w.pth", fresh="auto")
    assert equal(net, before)


@pytest.mark.parametrize("source", ["hmsa", "hrnet-ocr", "hrnet-tiny"])
@pytest.mark.parametrize("target", ["hmsa", "hrnet-ocr", "hrnet-tiny"])
def test_auto_finds_the_trunk_in_every_direction_whoever_wrote_the_file(tmp_path, source, target):
    weights, known = shaken(source, classes=5), set()
    torch.save(wrapped(weights), tmp_path / "theirs.pth")
    save_file(tmp_path / "ours.pt", Final(identity={}, meta={}, step=1, weights=weights))
    for name in ("theirs.pth", "ours.pt"):
        net = net_of(target)
        loaded = load_weights(net, tmp_path / name, fresh="auto")
        assert "fits too" not in loaded.where
        known.add((loaded.num_tensors, loaded.fresh))
        theirs = {n.removeprefix("backbone."): t for n, t in weights.items()}
        assert equal(net, {n: theirs[n.removeprefix("backbone.")] for n in net.state_dict() if "stage4" in n})
    assert len(known) == 1


@pytest.mark.parametrize("averaged", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_a_checkpoint_is_a_model_by_its_averaged_weights_if_it_has_any(tmp_path, averaged, known):
    """Also one that was written before checkpoints knew the recipe."""
    weights, mean = shaken("hrnet-tiny"), shaken("hrnet-tiny", seed=2)
    meta = META | {"options": NETS["hrnet-tiny"]}
    network = {name: value for name, value in meta.items() if name != "recipe"}
    average = {n: mean[n] for n, _ in net_of("hrnet-tiny").named_parameters()} if averaged else None
    identity, told = {"network": network}, meta if known else {}
    made = Checkpoint(identity=identity, step=4, weights=weights, average=average, optimizer={}, meta=told)
    save_file(tmp_path / "step-00000004.pt", made)
    net, found = load_any(tmp_path / "step-00000004.pt")
    assert found == (meta if known else network)
    assert equal(net, weights | (average or {}))
    start = net_of("hrnet-tiny")
    load_weights(start, tmp_path / "step-00000004.pt")
    assert equal(start, net.state_dict())


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([1], r"no tensor with a name is in it \(no mapping\)"),
        ({"state_dict": {"a": 1}}, r"no tensor with a name is in it \(but 'state_dict'\)"),
        ({"format": "segstream-checkpoint", "version": 99, "kind": "final", "weights": {}}, "version 99, expected 1"),
        ({"state_dict": {f"x{i}": torch.ones(1) for i in range(50)}}, r"50 unexpected \(x0, x1, x2, and 47 more\)"),
        ({"state_dict": shaken("hrnet-tiny") | {"bn1.weight": torch.full((8,), torch.nan)}}, "bn1.weight holds nan or"),
    ],
)
def test_what_is_no_file_of_weights_is_said(tmp_path, content, text):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(DataError, match=f"w.pth: .*{text}") as caught:
        load_weights(net_of("hrnet-tiny"), tmp_path / "w.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "arch", "kind", "taxonomy"),
    [
        ("mseg_hrnet_w48_194.tsv", "hrnet-w48", "MSeg checkpoint", "universal"),
        ("hmsa_mscale_ocr_19.tsv", "hmsa", "HMSA checkpoint", "cityscapes-19"),
    ],
)
def test_files_of_the_published_layout_are_loaded(tmp_path, names, arch, kind, taxonomy):
    content = wrapped(published_weights(names), epoch=1, arch="x", optimizer={"state": {}})
    torch.save(content, tmp_path / "a.pth")
    net, meta = load_any(tmp_path / "a.pth")
    assert (meta["arch"], meta["kind"], meta["taxonomy"]["name"]) == (arch, kind, taxonomy)
    assert all((tensor == 0.25).all() for tensor in net.state_dict().values() if tensor.is_floating_point())


def write(path, classes, **changes):
    net = build("hrnet-tiny", classes, seed=7)
    torch.save(wrapped(net.state_dict() | changes, epoch=2, mean_iu=np.float64(0.5)), path)
    return net.eval()


@pytest.mark.parametrize(("classes", "taxonomy"), [(194, "universal"), (316, "naive"), (5, None)])
def test_a_published_file_becomes_its_network(tmp_path, classes, taxonomy):
    expected = write(tmp_path / "a.pth", classes)
    net, meta = load_any(tmp_path / "a.pth")
    assert (meta["arch"], meta["num_classes"]) == ("hrnet-tiny", classes)
    assert meta.get("taxonomy", {}).get("name") == taxonomy
    image = torch.randn(1, 3, 32, 32)
    assert not net.training
    assert torch.equal(net(image), expected(image))


def test_our_own_file_says_what_it_is(tmp_path):
    trained = build("hrnet-tiny", 3, **TINY)
    final = Final(identity={}, meta=META, step=1, weights=trained.state_dict())
    save_file(tmp_path / "final.pt", final)
    net, meta = load_any(tmp_path / "final.pt", num_classes=3)
    assert (meta, net.training) == (META, False)
    image = torch.randn(1, 3, 24, 24)
    assert torch.equal(net(image), trained.eval()(image))
    with pytest.raises(DataError, match="has 3 classes, not 4"):
        load_any(tmp_path / "final.pt", num_classes=4)


def test_what_cannot_be_used_is_refused(tmp_path):
    write(tmp_path / "a.pth", 5)
    write(tmp_path / "b.pth", 5, **{"conv1.weight": torch.zeros(7, 3, 3, 3)})
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "c.pth")
    torch.save({"last_layer.3.weight": torch.zeros(())}, tmp_path / "d.pth")
    for name, asked, error, says in (
        ("a", {"num_classes": 194}, DataError, "has 5 classes, not 194"),
        ("a", {"arch": "hrnet-w18-small"}, DataError, r"nearest is hrnet-w18-small: \d+ missing"),
        ("a", {"arch": "hrnet-tini"}, UsageError, "did you mean 'hrnet-tiny'"),
        ("b", {}, DataError, r"nearest is hrnet-tiny: 1 wrongly shaped \(conv1.weight: 7x3x3x3 in the file"),
        ("c", {}, UsageError, "none of its 1 tensors is the last of a network that segments"),
        ("d", {}, DataError, "fits no architecture to the last tensor"),
        ("none", {}, DataError, "no such file"),
    ):
        with pytest.raises(error, match=says):
            load_any(tmp_path / f"{name}.pth", **asked)
    torch.save({"format": "segstream-checkpoint", "version": 1, "kind": "final", "weights": {}}, tmp_path / "e.pth")
    with pytest.raises(DataError, match=r"our own final does not fit this network: \d+ missing"):
        load_weights(net_of("hrnet-tiny"), tmp_path / "e.pth")


def after(prefix, weights):
    return {f"{prefix}{name}": tensor for name, tensor in weights.items()}


RAW, MEAN = shaken("hrnet-tiny"), shaken("hrnet-tiny", seed=2)
LIGHTNING = {"pytorch-lightning_version": "2.5", "callbacks": {"best": {"score": torch.ones(())}}, "loops": {}}


@pytest.mark.parametrize(
    ("content", "expected", "where"),
    [
        (RAW, RAW, ""),
        ({"model": RAW, "optimizer": {}, "args": argparse.Namespace(lr=1)}, RAW, "'model'"),
        ({"model_state_dict": RAW, "epoch": 1}, RAW, "'model_state_dict'"),
        ({"a": {"network": after("x.y.", RAW)}}, RAW, "'a.network', names after 'x.y.'"),
        (after("_orig_mod.module.", RAW), RAW, "names after 'module.'"),
        ({n.replace("stage2.", "stage2._orig_mod."): t for n, t in RAW.items()}, RAW, ""),
        (
            {"state_dict": after("model.", RAW) | {"criterion.weight": torch.ones(3)}, **LIGHTNING},
            RAW,
            "'state_dict', names after 'model.', 1 tensors beside them left out",
        ),
        ({"model": RAW, "model_ema": MEAN}, MEAN, "'model_ema'; 'model' fits too: averaged weights go first, then"),
        ({"ema": {"module": MEAN}, "net": RAW}, MEAN, "'ema.module'; 'net' fits too"),
        ({"schema": RAW, "second": MEAN}, RAW, "'schema'; 'second' fits too"),
        (
            {"state_dict": after("net.", RAW) | after("net_ema.", MEAN)},
            MEAN,
            f"'state_dict', names after 'net_ema.', {len(RAW)} tensors beside them left out; 'state_dict', names after",
        ),
        ({"n_averaged": torch.ones(()), **after("module.", MEAN)}, MEAN, "names after 'module.', 1 tensors"),
        ({"weights": shaken("hrnet-tiny", classes=5), "best": RAW}, RAW, "'best'"),
    ],
)
def test_weights_are_found_by_names_and_shapes_wherever_they_lie(tmp_path, content, expected, where):
    torch.save(content, tmp_path / "w.pth")
    net = net_of("hrnet-tiny")
    loaded = load_weights(net, tmp_path / "w.pth")
    assert equal(net, expected)
    assert loaded.fresh == ()
    assert loaded.where.startswith(where)
    assert bool(loaded.where) == bool(where)


@pytest.mark.parametrize("keys", ["model", "state_dict"])
def test_a_network_is_recognised_below_any_key_and_prefix(tmp_path, keys):
    weights = build("hrnet-tiny", 194, seed=3).state_dict()
    torch.save({keys: after("_orig_mod.net.", weights), "optimizer": {"state": {}}}, tmp_path / "a.pth")
    net, meta = load_any(tmp_path / "a.pth")
    assert equal(net, weights)
    assert (meta["arch"], meta["taxonomy"]["name"], meta["kind"]) == ("hrnet-tiny", "universal", "state_dict")
    assert meta["where"] == f"'{keys}', names after 'net.'"


def test_a_prefixed_trunk_of_a_network_for_other_classes_is_no_backbone(tmp_path):
    torch.save({"model": shaken("hmsa", classes=5)}, tmp_path / "w.pth")
    with pytest.raises(DataError, match=r"HMSA checkpoint \('model'\) does not fit this network: 4 wrongly shaped"):
        load_weights(net_of("hmsa"), tmp_path / "w.pth")


def test_safetensors_are_read(tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    weights = build("hrnet-tiny", 3, seed=3).state_dict()
    save_file(after("model.", weights), tmp_path / "w.safetensors")
    net, meta = load_any(tmp_path / "w.safetensors")
    assert equal(net, weights)
    assert meta["where"] == "names after 'model.'"
    (tmp_path / "w.bin").write_bytes((tmp_path / "w.safetensors").read_bytes()[:-9])
    with pytest.raises(DataError, match=r"w.bin: cannot be read as a file of weights: .*\(safetensors\)"):
        load_any(tmp_path / "w.bin")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, True, 1j])
@pytest.mark.parametrize("kind", ["ours", "published", "safetensors"])
def test_what_is_no_real_number_is_refused_in_every_kind_of_file(tmp_path, value, kind):
    weights = net_of("hrnet-tiny").state_dict()
    path = tmp_path / "w.pt"
    weights["bn1.weight"] = torch.tensor([value] * len(weights["bn1.weight"]))
    if kind == "ours":
        save_file(path, Final(identity={}, meta=META | {"options": NETS["hrnet-tiny"]}, step=1, weights=weights))
    elif kind == "published":
        torch.save({"state_dict": weights}, path)
    else:
        pytest.importorskip("safetensors.torch").save_file(weights, path)
    for read in (lambda: load_weights(net_of("hrnet-tiny"), path), lambda: load_any(path)):
        with pytest.raises(DataError, match=r"bn1.weight.* (nan|torch.bool|torch.complex64)|fits no architecture"):
            read()


def test_a_plain_resnet_is_told_that_its_stem_is_another(tmp_path):
    theirs, _ = trunk("pspnet-50", shaken("pspnet-50"))
    plain = {n: t for n, t in theirs.items() if not n.startswith(("conv2.", "conv3.", "bn2.", "bn3."))}
    torch.save(plain | {"conv1.weight": torch.zeros(4, 3, 7, 7)}, tmp_path / "resnet50.pth")
    with pytest.raises(
        DataError, match=r"one 7x7 convolution, as torchvision's and timm's `resnet50` do; this network"
    ):
        load_weights(net_of("pspnet-50"), tmp_path / "resnet50.pth")


def test_a_result_that_names_sizes_it_does_not_have_takes_no_memory(tmp_path):
    meta = META | {"num_classes": 10**9}
    weights = build("hrnet-tiny", 3, **TINY).state_dict()
    save_file(tmp_path / "final.pt", Final(identity={}, meta=meta, step=1, weights=weights))
    with pytest.raises(DataError, match=r"do not fit the architecture it names, hrnet-tiny: 2 wrongly shaped"):
        load_any(tmp_path / "final.pt")
    save_file(tmp_path / "final.pt", Final(identity={}, meta={"arch": "hrnet-tiny"}, step=1, weights=weights))
    with pytest.raises(DataError, match=r"does not say what network it is of \('num_classes'\)"):
        load_any(tmp_path / "final.pt")
    meta = META | {"options": {"blocks": 10**9}}
    save_file(tmp_path / "final.pt", Final(identity={}, meta=meta, step=1, weights=weights))
    with pytest.raises(DataError, match=r"final.pt: does not say .* option blocks: expected 3 positive integers"):
        load_any(tmp_path / "final.pt")
