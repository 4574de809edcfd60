import base64
import concurrent.futures
import multiprocessing
import pickle
import random
import time
from pathlib import Path

import pytest

from segstream.shards.errors import DataError, UsageError
from segstream.shards.format.reader import open_set, open_shards
from segstream.shards.storage.http import HttpOrigin
from segstream.shards.storage.remote import RemoteStore, Retries
from tests.shards.servers import serving
from tests.shards.shared import PATIENT, FakeTime, refusal


@pytest.fixture
def server(ade):
    with serving(ade) as server:
        yield server


def store_at(server, retries=PATIENT, timeout_s=5.0):
    return RemoteStore(HttpOrigin(server.url, timeout_s=timeout_s), retries)


def test_one_connection_serves_a_thread_and_only_members_are_fetched(ade, server):
    shards = open_shards(server.url)
    before = server.sent
    sizes = [len(shards.read(i, member)) for i in range(5) for member in ("image", "native")]
    indexes = sum(path.stat().st_size for path in ade.glob("*.idx.json"))
    assert server.sent - before == sum(sizes) + indexes
    assert server.connections == 1


def test_threads_copies_and_forks_read_the_same(ade, server):
    shards = open_shards(server.url)
    expected = [open_shards(ade).read(i, "image") for i in range(5)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda i: shards.read(i % 5, "image"), range(40))) == expected * 8
    assert pickle.loads(pickle.dumps(shards)).read(3, "image") == expected[3]
    queue = multiprocessing.get_context("fork").Queue()
    child = multiprocessing.get_context("fork").Process(target=lambda: queue.put(shards.read(2, "image")))
    child.start()
    assert shards.read(1, "image") == expected[1]
    assert queue.get(timeout=20) == expected[2]
    child.join()


def test_faults_while_opening(ade):
    with serving(ade, share=0.4, faults=("503", "reset", "truncate", "flip"), seed=3) as server:
        for _ in range(20):
            with open_set(store_at(server)) as shards:
                assert shards.manifest == open_shards(ade).manifest
        assert len(server.failed) > 20


def test_a_large_file_comes_in_pieces_of_one_version(tmp_path, monkeypatch):
    monkeypatch.setattr("segstream.shards.storage.remote.PIECE", 1000)
    data = random.Random(0).randbytes(4567)
    (tmp_path / "big").write_bytes(data)
    with serving(tmp_path) as server:
        store = store_at(server)
        server.script += [None, "truncate", None, "reset"]
        assert store.read("big") == data
        assert store.read("big", 567) == data[567:]
        assert store.read("big", 4000, 567) == data[4000:]
        assert store.read("big", 5, 0) == b""
        original, other = store._origin.get, data[::-1]

        def replaced_after_two(name, start, stop):
            if start == 2000 and (tmp_path / "big").read_bytes() == data:
                (tmp_path / "big").write_bytes(other)
            return original(name, start, stop)

        monkeypatch.setattr(store._origin, "get", replaced_after_two)
        assert store.read("big") == other  # never the start of one and the end of the other


def test_the_budget_in_seconds_holds_too(tmp_path):
    clock = FakeTime()
    with serving(tmp_path, share=1.0, faults=("503",)) as server:
        store = store_at(server, clock.retries(num_attempts=1000, budget_s=60))
        with pytest.raises(DataError, match=r"/manifest\.json: failed \d+ times in \d\d s, lastly: .* answers 503"):
            open_set(store)
    assert 45 < sum(clock.waits) <= 60


def test_a_server_that_goes_away_is_waited_for(ade):
    clock = FakeTime()
    with serving(ade) as server:
        shards = open_set(store_at(server, clock.retries()))
    shards.close()  # what is connected already would still be served
    with pytest.raises(DataError, match=r"idx\.json: failed \d+ times in 1\d\d s, lastly: no answer .*well and reach"):
        shards.entry(0)
    assert 100 < sum(clock.waits) <= 120


def test_a_server_that_says_nothing_is_given_up_within_the_budget_and_one_time_out(ade, monkeypatch):
    monkeypatch.setenv("SEGSTREAM_RETRY_S", "1.5")
    with serving(ade, stall_s=30) as server:
        store = RemoteStore(HttpOrigin(server.url, timeout_s=0.5))
        shards = open_set(store)
        shards.entry(0)
        server.share, server.faults = 1.0, ("stall",)
        begun = time.monotonic()
        with pytest.raises(DataError, match=r"shard-000000\.tar: failed \d+ times in [12] s, lastly: .*timed out"):
            shards.read(0, "image")
        assert time.monotonic() - begun < 1.5 + 0.5 + 1.0  # a second for a busy machine


def test_whoever_waits_for_long_is_told_why(ade, server, caplog):
    shards = open_set(store_at(server))
    server.script += ["503"] * 5
    shards.entry(0)
    assert [record.getMessage().partition("shard")[2] for record in caplog.records] == [
        f"-000000.idx.json: failed {n} times (the server answers 503 Service Unavailable); again in {wait} s"
        for n, wait in zip((4, 5), (f"{record.args[3]:.1f}" for record in caplog.records), strict=True)
    ]


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf"])
def test_a_retry_time_that_is_none(monkeypatch, text):
    monkeypatch.setenv("SEGSTREAM_RETRY_S", text)
    with pytest.raises(UsageError, match=f"SEGSTREAM_RETRY_S={text}: not a number of seconds"):
        open_shards("http://127.0.0.1:9/set")


def test_a_server_may_ask_for_more_time(tmp_path):
    assert Retries(chance=lambda: 1.0).wait_s(1, asked_s=3.0) == 3.0
    assert Retries().wait_s(1, asked_s=3600.0) == 10.0


def test_damage_that_is_stored_is_told_after_the_second_reading(ade, server):
    shards = open_set(store_at(server))
    span = shards.entry(2).members["native.png"]
    data = bytearray((ade / "shard-000001.tar").read_bytes())
    data[span.offset + 40] ^= 1
    (ade / "shard-000001.tar").write_bytes(data)
    before = len(server.requests)
    with pytest.raises(DataError, match=r"ADE_train_00000003\.native\.png fails its checksum .*same wrong bytes again"):
        shards.read(2, "native")
    assert len(server.requests) == before + 2


def test_a_server_without_ranges_is_refused_for_shards(ade):
    with serving(ade, ranges=False) as server:
        shards = open_set(store_at(server))
        with pytest.raises(DataError, match=r"shard-000001\.tar: the server does not answer Range requests"):
            shards.read(3, "image")


def test_wrong_urls(server):
    with pytest.raises(DataError, match=r"elsewhere: incomplete: no manifest\.json"):
        open_shards(f"{server.url}/elsewhere")
    with pytest.raises(DataError, match="not a URL"):
        open_set(RemoteStore(HttpOrigin("http://[::1/set"), PATIENT))


def test_a_thousand_openings_leave_no_connection(ade, server):
    open_files = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(1000):
        with open_shards(server.url):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) < open_files + 10  # the server's own ends may linger


def test_a_query_and_a_login_go_with_every_file_and_are_not_shown(ade, tmp_path):
    (tmp_path / "a b#1%").symlink_to(ade)
    with serving(tmp_path) as server:
        place = f"{server.url}/a b#1%".replace("://", "://us%40er:pa:s%20s@")
        with open_shards(f"{place}?sig=a%2Fb+c&x") as shards:
            assert shards.read(1, "image") == open_shards(ade).read(1, "image")
            assert shards.url == f"{server.url}/a b#1%"
        assert {path.partition("?")[2] for _, path, _ in server.requests} == {"sig=a%2Fb+c&x"}
        assert set(server.logins) == {(f"Basic {base64.b64encode(b'us@er:pa:s s').decode()}", None)}
        server.script += ["401"]
        said = refusal(lambda: open_shards(f"{place}?sig=a%2Fb"))
    assert said.startswith(f"{server.url}/a b#1%/manifest.json: the server answers 401 ")
    assert "needs a login" in said


@pytest.mark.parametrize(
    "mistake", ["http://user:sec/ret@host/x", "http://user:secret@[::1/x", "http://user:secret@/x"]
)
def test_a_login_in_what_is_no_url_is_not_shown(mistake):
    said = refusal(lambda: open_shards(mistake))
    assert "not a URL" in said
    assert "sec" not in said


def test_a_login_is_not_sent_to_where_a_redirect_leads(ade):
    with serving(ade) as other, serving(ade, redirect=other.url) as server:
        assert open_shards(server.url.replace("://", "://user:secret@")).read(0, "image")
    assert all(login for login, _ in server.logins)
    assert {login for login, _ in other.logins} == {None}


def test_the_proxy_of_the_environment_gets_its_login(ade, monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving(ade) as server:  # it serves any host
        for start in ("http://", ""):
            monkeypatch.setenv("http_proxy", f"{start}user:p%40ss@{server.url.removeprefix('http://')}")
            assert open_shards("http://nowhere.example").read(0, "image") == open_shards(ade).read(0, "image")
    assert set(server.logins) == {(None, f"Basic {base64.b64encode(b'user:p@ss').decode()}")}
    assert server.requests[0][1] == "http://nowhere.example/manifest.json"


@pytest.mark.parametrize(("proxy", "said"), [("socks5://u:pw@h:9", "socks5:// is no proxy"), ("u:pw@h:x", "not a URL")])
@pytest.mark.parametrize("kind", ["http", "s3"])
def test_a_proxy_that_cannot_work_is_told_at_once(account, monkeypatch, kind, proxy, said):
    if kind == "s3":
        pytest.importorskip("boto3")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://nowhere.example")
    monkeypatch.setenv("http_proxy", proxy)
    found = refusal(lambda: open_shards("s3://bucket/set" if kind == "s3" else "http://nowhere.example/set"))
    assert found.startswith("http_proxy: ")
    assert said in found
    assert "pw" not in found
