"""Batches through a network that fails, from real servers behind a proxy: the right ones, in order, all of them."""

import pytest
import torch

from segstream.pipeline.config import AugmentConfig, DataConfig, LoaderConfig
from segstream.pipeline.loader import Loader
from segstream.shards.convert.convert import convert
from segstream.shards.convert.publish import Target
from segstream.shards.errors import DataError
from tests.shards import trees
from tests.shards.servers import FAULTS, proxying
from tests.shards.services import NoServiceError, nginx

SHARE = 0.12  # of the answers
BATCH = 20


def converted(folder, images):
    """The root of a set of `images` samples, 16 in a shard."""
    raw = trees.ade20k(folder / "raw", train=images)
    convert(dataset="ade20k-150", split="train", raw=raw, out=str(folder / "sets"), shard_samples=16)
    return folder / "sets"


def batches(root, count):
    data, loader = DataConfig(shards=str(root), mix={"ade20k-150": 1}), LoaderConfig(batch=BATCH, threads=8)
    with Loader(data, AugmentConfig(short_side=None, crop=16), loader, seed=5) as source:
        yield from source.batches(0, count // BATCH)


def equal_through(proxy, url, root, count):
    seen = 0
    for ours, own in zip(batches(url, count), batches(root, count), strict=True):
        assert ours.keys == own.keys
        assert torch.equal(ours.images, own.images)
        assert torch.equal(ours.labels, own.labels)
        seen += len(ours.keys)
    assert seen == count
    assert set(proxy.failed) == set(FAULTS)
    assert len(proxy.failed) > count * SHARE


SOAK = [pytest.mark.soak, pytest.mark.timeout(3600)]


@pytest.mark.parametrize(
    ("images", "count", "seed"),
    [pytest.param(60, 120, 11, id="few"), pytest.param(2000, 10_000, 12, id="soak", marks=SOAK)],
)
def test_samples_from_real_servers_through_faults(s3, tmp_path, monkeypatch, images, count, seed):
    root = converted(tmp_path, images)
    try:
        with nginx(root, tmp_path / "nginx") as server, proxying(server, share=SHARE, seed=seed, stall_s=0.3) as proxy:
            equal_through(proxy, proxy.url, root, count)
    except NoServiceError as error:
        pytest.skip(str(error))
    for name, value in s3.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    with s3.bucket() as bucket:
        Target(f"s3://{bucket}/sets/ade20k-150/train").publish(root / "ade20k-150" / "train")
        with proxying(s3.endpoint, share=SHARE, seed=seed, stall_s=0.3) as proxy:
            monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
            equal_through(proxy, f"s3://{bucket}/sets", root, count)
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)


def test_a_server_that_breaks_for_good_ends_the_stream_with_an_error(tmp_path, monkeypatch):
    root = converted(tmp_path, 40)
    monkeypatch.setenv("SEGSTREAM_RETRY_S", "1")
    try:
        with nginx(root, tmp_path / "nginx") as server, proxying(server) as proxy:
            stream, own = batches(proxy.url, 200), batches(root, 200)
            assert next(stream).keys == next(own).keys
            proxy.share, proxy.faults = 1.0, ("503",)

            def rest():
                for ours, expected in zip(stream, own, strict=True):
                    assert ours.keys == expected.keys

            with pytest.raises(DataError, match=r"/ade20k-150/train/shard-.*: failed \d+ times in \d s, lastly: .*503"):
                rest()
    except NoServiceError as error:
        pytest.skip(str(error))
