"""How checkpoints segment when little is asked for, and that `predict` and `eval` do so alike."""

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from segstream.model.config import InferConfig
from segstream.model.inference.predictor import Predictor, infer_config
from segstream.model.networks.build import build
from segstream.shards.errors import DataError, UsageError
from segstream.shards.taxonomy import load_taxonomy, projection
from tests.model.literal_inference import settled
from tests.model.plain import HMSA
from tests.model.toy import save_net, save_published

OWN_SCALES = (1.0, 0.5)  # of HMSA's networks
PLAIN = nn.Identity()


@pytest.fixture(scope="module")
def attentive():
    return build("hmsa", 19, seed=1, **HMSA)


def eval_of(**values):
    return {"recipe": {"eval": {"crop": 33, **values}}}


def test_the_order_is_asked_for_then_recipe_then_the_authors_own(attentive):
    def config(net, meta, **asked):
        return infer_config(Path("c.pt"), net, meta, **asked)

    assert config(PLAIN, {}) == InferConfig(crop=713)
    assert config(PLAIN, {}, crop=473, flip=False) == InferConfig(crop=473, flip=False)
    assert config(PLAIN, eval_of(short_side=48)) == InferConfig(crop=33, short_side=48)
    for stored in ({"short_side": 48}, {"long_side": 90}):  # either takes the place of the other
        assert config(PLAIN, eval_of(**stored), long_side=70) == InferConfig(crop=33, long_side=70)
        assert config(PLAIN, eval_of(**stored), short_side=70) == InferConfig(crop=33, short_side=70)
        assert config(PLAIN, eval_of(**stored), short_side="native") == InferConfig(crop=33)
    with pytest.raises(UsageError, match="short_side and long_side: one gives the other; ask for one of the two"):
        config(PLAIN, {}, short_side="native", long_side=9)
    for meta in ({}, eval_of()):
        assert config(attentive, meta).n_scales == OWN_SCALES
        assert config(attentive, meta, n_scales=(0.5, 1.0, 2.0)).n_scales == (0.5, 1.0, 2.0)
        assert config(attentive, meta, crop=64).n_scales is None
        assert config(attentive, meta, scales=(0.5, 1.0)).n_scales is None
    stated = eval_of(n_scales=[0.5, 1.0])
    assert config(attentive, stated).n_scales == (0.5, 1.0)
    assert config(attentive, stated, scales=(0.5, 1.0)).n_scales is None  # what is asked for replaces it
    windows = config(attentive, eval_of(scales=[0.5, 1.0]))
    assert (windows.scales, windows.n_scales) == ((0.5, 1.0), None)
    both = config(attentive, eval_of(scales=[0.5, 1.0]), n_scales=(1.0,))
    assert (both.scales, both.n_scales) == ((1.0,), (1.0,))
    with pytest.raises(DataError, match="give one"):
        config(attentive, {}, scales=(0.5, 1.0), n_scales=(1.0,))
    with pytest.raises(DataError, match=r"c\.pt: recipe\.eval"):
        config(PLAIN, eval_of(crops=3))


def test_a_published_universal_model_answers_in_the_classes_asked_for(tmp_path):
    file = save_published(tmp_path / "mseg-3m.pth", 194)
    predictor = Predictor(file, taxonomy="camvid-11", crop=33, device="cpu")
    assert predictor.taxonomy == load_taxonomy("camvid-11")
    expected = projection(load_taxonomy("universal"), load_taxonomy("camvid-11"))
    np.testing.assert_array_equal(predictor.projection, expected)
    own = Predictor(file, arch="hrnet-tiny", crop=33, device="cpu")
    assert (own.taxonomy.name, own.projection, own.config.crop) == ("universal", None, 33)
    assert own.identity != predictor.identity
    image = np.random.default_rng(0).integers(0, 256, (40, 52, 3), np.uint8)
    ids, shares = predictor(image, probabilities=True)
    assert (ids.shape, shares.shape) == ((40, 52), (11, 40, 52))
    np.testing.assert_array_equal(ids, shares.argmax(axis=0))
    np.testing.assert_array_equal(ids, predictor(image))
    np.testing.assert_array_equal(predictor([image, image]), [ids, ids])
    with pytest.raises(UsageError, match="did you mean 'camvid-11'"):
        Predictor(file, arch="hrnet-tiny", taxonomy="camvid-12")
    with pytest.raises(DataError, match="has 194 classes, not 19"):
        Predictor(file, num_classes=19)


def test_classes_of_a_file_that_names_none(tmp_path):
    file = save_published(tmp_path / "camvid-11-1m.pth", 11)
    assert Predictor(file, arch="hrnet-tiny").taxonomy.classes[:2] == ("class 0", "class 1")
    assert Predictor(file, arch="hrnet-tiny", taxonomy="camvid-11").taxonomy == load_taxonomy("camvid-11")
    with pytest.raises(DataError, match="11 classes, cityscapes-19 has 19"):
        Predictor(file, arch="hrnet-tiny", taxonomy="cityscapes-19")


def test_ids_of_a_server_come_from_the_19_classes_of_cityscapes_alone(tmp_path):
    net = settled("hmsa", 19, **HMSA)
    file = save_net(tmp_path / "city.pt", net, taxonomy=load_taxonomy("cityscapes-19"), arch="hmsa", options=HMSA)
    image = np.random.default_rng(0).integers(0, 256, (40, 64, 3)).astype(np.uint8)
    own, server = (Predictor(file, ids=ids, device="cpu") for ids in (None, "cityscapes-34"))
    names = [own.taxonomy.classes[i] for i in own(image).ravel()]
    assert len({*names}) > 1
    assert [server.taxonomy.classes[i] for i in server(image).ravel()] == names
    assert server.identity["taxonomy"]["name"] == "cityscapes-34"
    bare = save_published(tmp_path / "mseg-3m.pth", 194)
    with pytest.raises(
        UsageError, match=r"ids of cityscapes-34 are made of the classes of cityscapes-19, not of universal"
    ):
        Predictor(bare, ids="cityscapes-34", device="cpu")
    projected = Predictor(bare, taxonomy="cityscapes-19", ids="cityscapes-34", device="cpu").projection
    matrix = projection(load_taxonomy("universal"), load_taxonomy("cityscapes-19"))
    np.testing.assert_array_equal(projected[[7, 33]], matrix[[0, 18]])
    assert (projected.shape, projected.sum()) == ((34, 194), matrix.sum())
