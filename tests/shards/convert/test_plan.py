from hypothesis import given
from hypothesis import strategies as st

from segstream.shards.convert.plan import plan_shards, shard_name


@given(st.lists(st.integers(0, 100)), st.integers(1, 5), st.integers(1, 150))
def test_shards_keep_order_and_limits_and_are_filled(sizes, max_samples, max_bytes):
    shards = list(plan_shards(((n, s) for n, s in enumerate(sizes)), max_samples=max_samples, max_bytes=max_bytes))
    assert [n for shard in shards for n in shard] == list(range(len(sizes)))
    for i, shard in enumerate(shards):
        used = sum(sizes[n] for n in shard)
        assert len(shard) <= max_samples
        assert used <= max_bytes or len(shard) == 1
        if i + 1 < len(shards):  # the next sample did not fit
            assert len(shard) == max_samples or used + sizes[shards[i + 1][0]] > max_bytes


def test_names_sort_as_numbers():
    assert [shard_name(n) for n in (0, 12)] == ["shard-000000.tar", "shard-000012.tar"]
