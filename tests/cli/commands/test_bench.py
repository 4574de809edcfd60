"""What the commands print; what they time is tested with the rooms that do it."""

import importlib.util
import json

import pytest

from segstream.benchmarks.loader import Setting
from segstream.benchmarks.loader_variants import VARIANTS
from segstream.cli.commands import bench
from segstream.shards.errors import UsageError

PEER_MODULES = {"mosaicml-streaming": "streaming", "litdata": "litdata", "megatron-energon": "megatron"}
NETWORK = {"classes": 3, "crop": 33, "batch": 2, "device": "cpu", "rounds": 3}


@pytest.fixture
def peaks(monkeypatch):
    monkeypatch.setattr("segstream.benchmarks.step.peak_mib", lambda config, name: {"ours": 10.4, "plain": 26.0}[name])


def printed(capsys):
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("peaks")
def test_a_step_beside_the_plain_one(capsys, monkeypatch):
    took = {"ours": [1.0, 2.0, 4.0], "plain": [10.0, 40.0, 12.0], "matmul": [0.5, 0.5, 0.5]}
    timed = []

    def interleaved(runs, rounds, **_):
        timed.append((list(runs), rounds))
        return took

    monkeypatch.setattr("segstream.benchmarks.step.interleaved", interleaved)
    bench.step(arch="hrnet-tiny", precision="fp32", json=True, **NETWORK)
    result = printed(capsys)
    assert timed == [(["ours", "plain", "matmul"], 3)]
    assert (result["task"], result["arch"], result["classes"], result["crop"]) == ("step", "hrnet-tiny", 3, 33)
    tflop = pytest.approx(result["gflop"] / 2000, abs=1e-3)
    assert result["ours"] == {"ms": 2000, "images_per_s": 1, "peak_mib": 10, "tflop_per_s": tflop}
    assert result["ratio_time"] == 10  # the median of 10, 20 and 3
    assert result["ratio_peak"] == 2.5


@pytest.mark.usefixtures("peaks")
@pytest.mark.parametrize("task", ["infer", "loss"])
def test_inference_and_loss(capsys, task):
    getattr(bench, task)(precision="bf16", json=True, **NETWORK)
    result = printed(capsys)
    assert (result["task"], result["precision"]) == (task, "bf16")
    assert {"ms", "images_per_s", "peak_mib"} <= result["ours"].keys() & result["plain"].keys()
    assert ("matmul_tflop_per_s" in result) == (task == "infer")
    getattr(bench, task)(precision="bf16", only_ours=True, **NETWORK)
    out = capsys.readouterr().out
    assert ("ours" in out, "plain" in out) == (True, False)


def test_the_loader_beside_the_rule(capsys, monkeypatch):
    small = Setting(name="small", source_hw=(48, 64), short_side=48, crop=33)
    monkeypatch.setattr("segstream.benchmarks.loader.SETTINGS", (small,))
    bench.loader(crops=4, batch=2, threads=1, rounds=1, peers=True, json=True)
    result = printed(capsys)
    (row,) = result["settings"]
    assert row["name"] == "small"
    rates = ("ours", "reference_rule", "decode_only", "decode_fast", *VARIANTS, *(f"ratio_{name}" for name in VARIANTS))
    assert all(row[key] > 0 for key in (*rates, "ratio_reference", "ratio_decode", "ratio_decode_fast"))
    assert (row["engine"], row["engine_difference"], row["gpu_mib"]) == ("engine opencv, as the recipe says", 0, None)
    assert 0 <= row["wait_share"] <= 1
    assert row["image_difference"] < 3
    assert row["label_agreement"] > 0.9
    assert isinstance(result["machine"], str)
    assert set(row["peers"]) == {"webdataset", "mosaicml-streaming", "litdata", "megatron-energon"}
    measured = {name: peer for name, peer in row["peers"].items() if "error" not in peer}
    assert all(peer["crops_per_s"] > 0 and peer["ratio"] > 0 for peer in measured.values())
    assert "webdataset" in measured
    for name in row["peers"].keys() - measured:
        installed = importlib.util.find_spec(PEER_MODULES[name]) is not None
        assert installed or "not installed" in row["peers"][name]["error"]


@pytest.mark.parametrize(
    ("task", "options", "says"),
    [
        ("step", {"precision": "fp8"}, "--precision 'fp8': choose among fp32, bf16, auto"),
        ("infer", {"device": "tpu"}, "--device 'tpu'"),
        ("infer", {"image": "20"}, "give HEIGHTxWIDTH"),
        ("loader", {"setting": ["513"]}, "choose among 480-473, 1080-713, city-713"),
        ("loader", {"crops": 5}, "--crops 5 is no multiple of --batch 4"),
        ("step", {"arch": "hrnet-w49", "device": "cpu", "only_ours": True}, "did you mean 'hrnet-w48'"),
    ],
)
def test_bad_use_is_refused(task, options, says):
    with pytest.raises(UsageError, match=says):
        getattr(bench, task)(**options)


def test_whole_images_through_the_whole_procedure(capsys):
    options = {"classes": 5, "crop": 33, "batch": 2, "device": "cpu", "rounds": 2, "images": 2}
    bench.infer(image="20x30", short_side=24, multi=True, json=True, **options)
    result = printed(capsys)
    assert (result["size_hw"], result["short_side"], len(result["scales"])) == ([20, 30], 24, 6)
    assert result["agreement"] >= 0.995
    assert min(result["ours"], result["literal"], result["ratio"]) > 0
    bench.infer(image="20x30", only_ours=False, **options)
    assert "literal / ours: time" in capsys.readouterr().out
