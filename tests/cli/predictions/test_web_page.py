"""The page of `serve`, as a browser and as a program meet it: a picture in, ids and overlay out, messages else."""

import asyncio
import base64
import io
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segstream.cli.predictions import web_page as serving
from segstream.cli.predictions.media import read_picture
from segstream.model.inference.predictor import Predictor
from segstream.shards.codecs.images import decode_picture
from segstream.shards.taxonomy import load_taxonomy

pytest.importorskip("starlette")


@pytest.fixture(scope="module")
def served(place):
    """Where a server of the tiny model answers, and its process."""
    command = [sys.executable, "-m", "segstream.cli.main", "serve", "--checkpoint", place / "runs/recipe/final.pt"]
    with subprocess.Popen([*command, "--port", "0"], stderr=subprocess.PIPE, text=True) as process:
        found = re.search(r"http://127\.0\.0\.1:\d+/", process.stderr.readline())
        assert found is not None
        yield found[0], process.pid
        process.terminate()


@pytest.fixture(scope="module")
def url(served):
    return served[0]


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A photograph that lies on its side, as telephones store them."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path_factory.mktemp("photo") / "my photo.jpg"
    Image.fromarray(noise).resize((90, 60)).save(path, exif=exif, quality=95)
    return path


@pytest.fixture(scope="module")
def expected(place, photo):
    return Predictor(place / "runs/recipe/final.pt")(read_picture(photo))


def post(url, data):
    try:
        with urllib.request.urlopen(urllib.request.Request(url + "segment", data), timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_program_gets_ids_overlay_and_shares(url, photo, expected):
    status, answer = post(url, photo.read_bytes())
    assert (status, answer["width"], answer["height"]) == (200, 60, 90)  # the right way up
    label = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["label"]))))
    assert (label == expected).all()
    shares = {int(i): pytest.approx((expected == i).mean()) for i in np.unique(expected)}
    assert {c["id"]: c["share"] for c in answer["classes"]} == shares
    overlay = Image.open(io.BytesIO(base64.b64decode(answer["overlay"])))
    assert overlay.width / overlay.height == pytest.approx(60 / 90)


def _picture(width, height):
    out = io.BytesIO()
    Image.new("1", (width, height)).save(out, "PNG")
    return out.getvalue()


REFUSED = {
    "empty": (b"", 415, "cannot be segmented: empty file"),
    "text": (b"no picture\n" * 9, 415, "cannot be segmented: begins with"),
    "too many bytes": (bytes(serving.MAX_BYTES + 1), 413, "more than 32 MB"),
    "too many pixels": (_picture(8000, 5001), 413, "more than 40 million pixels"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_segmented_is_refused_with_a_reason(url, case):
    data, status, reason = REFUSED[case]
    code, answer = post(url, data)
    assert code == status
    assert reason in answer["error"]
    assert post(url, _picture(40, 30))[0] == 200  # and it goes on


def test_one_picture_at_a_time_is_in_memory(monkeypatch):
    inside, most = 0, 0

    def decode(data, *, most):
        nonlocal inside
        inside += 1
        return decode_picture(data, most=most)

    class Fake:
        taxonomy = load_taxonomy("cityscapes-19")

        def __call__(self, images):
            nonlocal inside, most
            time.sleep(0.02)
            most, inside = max(most, inside), inside - 1
            return [np.zeros(image.shape[:2], np.uint8) for image in images]

    monkeypatch.setattr(serving, "decode_picture", decode)
    service = serving.Service("fake", Fake())
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(service.answer, [_picture(40, 30)] * 6))) == 6
    assert most == 1


def test_an_upload_that_does_not_end_gives_its_place_away(monkeypatch):
    class Slow:
        async def stream(self):
            yield b"1"
            await asyncio.sleep(60)

    monkeypatch.setattr(serving, "UPLOAD_S", 0.01)
    with pytest.raises(serving.RefusedError, match=r"1 bytes arrived in 0.01 s"):
        asyncio.run(serving._body(Slow()))


@pytest.fixture
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


def test_a_person_drops_a_picture_and_takes_the_label_home(url, photo, expected, browser, tmp_path):
    page = browser.new_page(accept_downloads=True)
    asked, problems = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(url)
    page.set_input_files("#file", str(photo))
    overlay = page.wait_for_selector("#result #overlay[src^='blob:']", state="visible")
    assert overlay.evaluate("image => image.decode().then(() => image.naturalHeight / image.naturalWidth)") == 1.5
    assert re.match(r"60 . 90 pixels", page.locator("#size").inner_text())
    ids = [int(text) for text in page.locator("#classes tbody td:nth-child(2)").all_inner_texts()]
    assert sorted(ids) == np.unique(expected).tolist()
    with page.expect_download() as download:
        page.click("#get-label")
    assert download.value.suggested_filename == "my photo_label.png"
    download.value.save_as(tmp_path / "label.png")
    assert (np.asarray(Image.open(tmp_path / "label.png")) == expected).all()
    assert [a for a in asked if not a.startswith((url, "data:", "blob:"))] == []
    assert problems == []
    (tmp_path / "notes.jpg").write_text("no picture")
    page.set_input_files("#file", str(tmp_path / "notes.jpg"))
    page.wait_for_selector("#message.bad")
    assert page.locator("#message").inner_text().startswith("notes.jpg: cannot be segmented: begins with")
    assert not page.locator("#result").is_visible()


def test_bad_use_is_one_line(here, place, tmp_path, url):
    checkpoint, port = place / "runs/recipe/final.pt", url.rstrip("/").rsplit(":", 1)[1]
    taken = here("serve", "--checkpoint", checkpoint, "--port", port)
    assert (taken.code, taken.err.count("\n")) == (1, 1)
    assert f"127.0.0.1:{port}: cannot be served at" in taken.err
    missing = here("serve", "--checkpoint", tmp_path / "none.pt")
    assert missing.code == 1
    assert "none.pt" in missing.err


def resident_mib(pid):
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
@pytest.mark.parametrize(
    "uploads", [20, pytest.param(500, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])], ids=["few", "soak"]
)
def test_memory_is_flat(served, photo, uploads):
    """Pictures of several sizes and kinds, every fifth one cut short."""
    address, pid = served
    sizes = [(60, 90), (300, 200), (640, 480), (31, 400)]
    pictures = [photo.read_bytes(), *(_picture(*size) for size in sizes)]
    pictures.append(pictures[3][:100])

    def send(count):
        answers = [post(address, pictures[n % len(pictures)])[0] for n in range(count)]
        assert set(answers) <= {200, 415}

    send(2 * len(pictures))
    before = resident_mib(pid)
    send(uploads)
    grown = resident_mib(pid) - before
    print(f"{uploads} uploads: {before:.0f} MiB before, {grown:+.0f} MiB")
    assert grown < 40
