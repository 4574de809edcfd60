import base64
import dataclasses
import html
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from segstream.cli.commands.show import show
from segstream.cli.report.gallery import LARGEST, SMALLEST, choose, picture_side, share_text
from segstream.shards.convert.convert import convert
from segstream.shards.errors import DataError, UsageError
from segstream.shards.format.reader import open_shards
from segstream.shards.taxonomy import load_taxonomy
from tests.cli.conftest import Page
from tests.shards import trees
from tests.shards.convert.test_convert import members
from tests.shards.convert.test_relabel import bdd, converted
from tests.shards.shared import edit_manifest

CHROMIUM = next((c for name in ("chromium", "chromium-browser", "google-chrome") if (c := shutil.which(name))), None)


@pytest.fixture
def unlabelled(tmp_path):
    """A set of images only."""
    for n in range(3):
        trees.save(tmp_path / f"raw/bravo_ACDC/fog/{n}.png", trees.picture(np.random.default_rng(n)))
    return convert(dataset="bravo", split="test", raw=tmp_path / "raw", out=str(tmp_path)).url


def draw(out, *urls, **options):
    show([str(url) for url in urls], out, **options)
    return out.read_text()


def shown(capsys):
    return json.loads(capsys.readouterr().out)


def image_of(data, mode="L"):
    return np.asarray(Image.open(io.BytesIO(data)).convert(mode))


def test_the_page_is_well_formed_loads_nothing_and_is_small(sets, tmp_path):
    text = draw(tmp_path / "new/gallery.html", *sets.values())
    page = Page(text)
    assert (page.open, bool(page.loads)) == ([], True)
    assert all(url.startswith(("data:image/jpeg;base64,", "data:image/png;base64,")) for url in page.loads)
    assert not {"link", "iframe"} & page.seen
    assert not re.search(r"url\(|@import|https?://|<script[^>]* src", text)
    assert len(text) < 200_000
    alts = re.findall(r'<img[^>]* alt="([^"]*)"', text)
    assert len(alts) == len(page.loads)
    assert all(alts)
    manifest, said = open_shards(sets["ade20k-150"]).manifest, html.unescape(text)
    for fact in ("ade20k-150 · train", "5 in 3 shards", "5 shown", manifest.licence, sets["ade20k-150"]):
        assert fact in said
    assert f"{len(manifest.counts['native'])} of 150 (ade20k-150) occur" in said


@pytest.mark.parametrize("view", ["native", "universal", "naive"])
def test_shares_names_and_colours_are_those_of_the_label(sets, tmp_path, capsys, view):
    url = sets["ade20k-150"]
    text = draw(tmp_path / "g.html", url, taxonomy=[view], json=True)
    [account] = shown(capsys)["sets"]
    assert account["taxonomies"] == [view]
    stored = members(tmp_path / url)
    assert len(account["samples"]) == 5
    for sample in account["samples"]:
        member = "native" if view == "naive" else view
        label = image_of(stored[f"{sample['key']}.{member}.png"])
        classes = load_taxonomy("universal" if view == "universal" else "ade20k-150").classes
        rows = sample["labels"][view]["classes"]
        assert [r["pixels"] for r in rows] == sorted((r["pixels"] for r in rows), reverse=True)
        pixels = {classes[i]: int((label == i).sum()) for i in np.unique(label) if i != 255}
        assert {r["name"]: r["pixels"] for r in rows} == pixels
        assert sample["labels"][view]["ignored"] == pytest.approx((label == 255).mean())
        start = text.index(f'aria-label="classes of {sample["key"]}, {view}"')
        legend = text[start : text.index("</ul>", start)]
        for row in rows:
            assert f"{row['color']}" in legend
            assert f"<b>{row['name']}</b><span>{share_text(row['share'])}</span>" in legend
        assert ('class="none"' in legend) == bool((label == 255).any())


def test_relabelled_labels_are_a_taxonomy_of_their_own(tmp_path, capsys):
    draw(tmp_path / "g.html", converted(bdd(tmp_path / "raw"), tmp_path, "bdd").url, json=True)
    [account] = shown(capsys)["sets"]
    assert account["taxonomies"] == ["native", "universal", "universal-relabeled"]
    [sample] = account["samples"]
    assert sample["labels"]["universal-relabeled"] != sample["labels"]["universal"]


def test_the_overlay_has_the_colours_of_the_legend_and_stripes_where_ignored(sets, tmp_path, capsys):
    url = sets["ade20k-150"]
    text = draw(tmp_path / "g.html", url, taxonomy=["native"], keys="ADE_train_00000002", json=True)
    [sample] = shown(capsys)["sets"][0]["samples"]
    source = re.search(r'data-view="native" src="[^",]+,([^"]+)"', text).group(1)
    overlay = image_of(base64.b64decode(source), "RGB")
    label = image_of(members(tmp_path / url)["ADE_train_00000002.native.png"])
    assert overlay.shape == (*label.shape, 3)
    for row in sample["labels"]["native"]["classes"]:
        color = tuple(int(row["color"][i : i + 2], 16) for i in (1, 3, 5))
        assert ((overlay == color).all(-1) == (label == row["id"])).all()
    assert (label == 255).any()
    assert {tuple(c) for c in overlay[label == 255].tolist()} == {(0, 0, 0), (255, 255, 255)}


def test_a_class_has_one_colour_in_every_set_and_taxonomy(sets, tmp_path, capsys):
    draw(tmp_path / "g.html", sets["ade20k-150"], sets["cityscapes-19"], sets["camvid-11"], json=True)
    colors = {}
    for account in shown(capsys)["sets"]:
        for sample in account["samples"]:
            for labels in sample["labels"].values():
                for row in labels["classes"]:
                    colors.setdefault(row["name"].lower(), set()).add(row["color"])
    assert {"building", "sky"} <= colors.keys()
    assert all(len(found) == 1 for found in colors.values())
    assert len(set.union(*colors.values())) == len(colors)


def test_every_class_is_shown_if_possible():
    classes = [(0, 1), (0, 1), (2,), (0, 1, 3), (3,), (0, 4)]
    for seed in range(8):
        two, three = choose(classes, 2, seed), choose(classes, 3, seed)
        assert two[0] == 2 or 3 in two
        assert 3 in three
        assert {i for at in three for i in classes[at]} == {0, 1, 2, 3, 4}
    assert choose(classes, 4, 1) == choose(classes, 4, 1)
    assert choose(classes, 99) == (0, 1, 2, 3, 4, 5)
    assert choose([], 3) == ()
    assert choose([(1, 2, 3), (1, 2, 3, 4), (5,), (1,)], 2) == (1, 2)  # the most new classes first
    places = choose([()] * 1000, 10, seed=3)  # without classes: spread evenly
    assert set(np.diff(places)) == {100}
    assert places != choose([()] * 1000, 10, seed=4)


def test_keys_choose_samples_by_either_spelling(sets, tmp_path, capsys):
    key = "lindau/lindau_000000_000019_leftImg8bit"
    draw(tmp_path / "g.html", sets["ade20k-150"], sets["cityscapes-19"], keys=f"{key},ADE_train_00000004", json=True)
    assert [[s["key"] for s in a["samples"]] for a in shown(capsys)["sets"]] == [["ADE_train_00000004"], [key]]
    draw(tmp_path / "g.html", sets["cityscapes-19"], keys=f"{key}.png", json=True)
    assert shown(capsys)["sets"][0]["samples"][0]["key"] == key


def test_images_without_labels_make_a_gallery_of_images(unlabelled, tmp_path, capsys):
    text = draw(tmp_path / "g.html", unlabelled, json=True)
    [account] = shown(capsys)["sets"]
    assert account["taxonomies"] == []
    assert [s["labels"] for s in account["samples"]] == [{}] * 3
    assert "images only" in text
    assert text.count("<img ") == 3
    assert "script" not in Page(text).seen
    with pytest.raises(UsageError, match=r"no labels in taxonomy 'native'; it holds images only"):
        draw(tmp_path / "g.html", unlabelled, taxonomy=["native"])


def test_names_are_escaped(tmp_path):
    for n, color in enumerate((40, 90)):
        trees.save(tmp_path / f"raw/images/{n}&.png", np.full((8, 8, 3), color, np.uint8))
        trees.save(tmp_path / f"raw/labels/{n}&.png", np.full((8, 8), n, np.uint8))
    own = 'name: own\nlicence: <b>&\nroot: raw\nsplits: {val: {images: "images/*.png", labels: "labels/*.png"}}\n'
    (tmp_path / "own.yaml").write_text(own + "classes: [{name: <i>x}, {name: '\"y&'}]\n")
    url = convert(dataset=str(tmp_path / "own.yaml"), split="val", out=str(tmp_path / "out")).url
    text = draw(tmp_path / "g.html", url)
    assert "&lt;b&gt;&amp;" in text
    assert "<b>&lt;i&gt;x</b>" in text
    assert "i" in Page(text).seen  # the legend's own squares, closed each
    assert 'alt="native label: &#34;y&amp; 100.0%"' in text


def test_what_is_unknown_or_not_held_is_told(sets, tmp_path):
    for taxonomy in ("universal", "universal-relabeled", "naive"):
        with pytest.raises(UsageError, match=f"camvid-11/val: has no labels in taxonomy '{taxonomy}'"):
            draw(tmp_path / "g.html", sets["camvid-11"], taxonomy=[taxonomy])
    with pytest.raises(UsageError, match="did you mean 'universal'"):
        draw(tmp_path / "g.html", sets["camvid-11"], taxonomy=["univresal"])
    with pytest.raises(UsageError, match=r"no sample 'nobody' in .*keys look like '0016E5_\d+'"):
        draw(tmp_path / "g.html", sets["camvid-11"], keys="nobody")


@pytest.mark.parametrize("member", ["image", "native"])
def test_a_damaged_sample_is_named_and_nothing_is_written(sets, tmp_path, member):
    damaged = shutil.copytree(sets["ade20k-150"], tmp_path / "set")
    with open_shards(damaged) as shards:
        entry = shards.entry(3)
        span = entry.members["jpg" if member == "image" else f"{member}.png"]
        tar = damaged / shards.manifest.shards[3 // 2].name  # two samples in each
    data = bytearray(tar.read_bytes())
    data[span.offset + span.size // 2] ^= 8
    tar.write_bytes(data)
    with pytest.raises(DataError, match="ADE_train_00000004"):
        draw(tmp_path / "g.html", damaged)
    assert not (tmp_path / "g.html").exists()


def test_a_label_with_an_id_outside_its_classes_is_named(sets, tmp_path):
    """A set whose checksums hold but whose label contradicts its class list."""
    wrong = shutil.copytree(sets["ade20k-150"], tmp_path / "set")
    native = dataclasses.replace(load_taxonomy("camvid-11"), from_universal=None)

    def change(manifest):
        manifest["taxonomies"]["native"] = dataclasses.asdict(native) | {"digest": native.digest}
        manifest["classes"]["native"] = []

    edit_manifest(wrong, change)
    with pytest.raises(DataError, match=r"sample 'ADE_train_0000000\d': label native has ids \[\d+.*camvid-11"):
        draw(tmp_path / "g.html", wrong, taxonomy=["native"])


def test_pictures_shrink_as_they_become_many():
    assert picture_side(1) == LARGEST
    assert picture_side(10**6) == SMALLEST
    sides = [picture_side(n) for n in (10, 50, 200)]
    assert sides == sorted(sides, reverse=True)
    assert all(n * side * side * 0.7 < 7.1e6 for n, side in zip((50, 200), sides[1:], strict=True))
    shares = [share_text(share) for share in (0.0, 1e-6, 0.00101, 0.5, 1.0)]
    assert shares == ["0.0%", "<0.1%", "0.1%", "50.0%", "100.0%"]  # what is there never reads as nothing


PROBE = """<script>
addEventListener("load", async () => {
  const all = [...document.images];
  await Promise.all(all.map((image) => { image.loading = "eager"; return image.decode(); }));
  const seen = () => all.filter((i) => i.matches(".label") && i.offsetParent).map((i) => i.dataset.view);
  const found = { widths: all.map((i) => i.naturalWidth), first: seen() };
  document.querySelector("input[value=universal]").click();
  found.second = seen();
  found.lists = [...document.querySelectorAll(".keys")].filter((k) => k.offsetParent).map((k) => k.dataset.view);
  const label = all.find((i) => i.matches(".label") && i.offsetParent);
  const opacity = () => getComputedStyle(label).opacity;
  const slider = document.getElementById("opacity");
  slider.focus();
  found.focused = document.activeElement === slider;
  slider.value = 25; slider.dispatchEvent(new Event("input"));
  found.opacity = [opacity()];
  for (const _ of "12") {
    document.dispatchEvent(new KeyboardEvent("keydown", { key: "o" }));
    found.opacity.push(opacity());
  }
  const box = label.getBoundingClientRect(), under = [];
  for (let y = 0; y < 24; y++) for (let x = 0; x < 32; x++) {
    label.parentElement.dispatchEvent(new PointerEvent("pointermove",
      { clientX: box.left + (x + .5) / 32 * box.width, clientY: box.top + (y + .5) / 24 * box.height }));
    under.push(document.getElementById("under").textContent);
  }
  found.under = under;
  document.body.textContent = JSON.stringify(found);
});
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_in_a_browser_the_switch_the_slider_the_key_and_the_pointer_work(sets, tmp_path):
    url, key = sets["ade20k-150"], "ADE_train_00000002"
    page = tmp_path / "g.html"
    page.write_text(draw(page, url, keys=key).replace("</body>", PROBE + "</body>"))
    flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
    flags += (f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND")  # no network
    command = [CHROMIUM, *flags, "--window-size=1200,900", "--virtual-time-budget=5000", "--dump-dom", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = json.loads(html.unescape(re.search(r"<body>(.*?)</body>", dom, re.S).group(1)))
    assert found["widths"] == [32, 32, 32]
    assert (found["first"], found["second"], found["lists"]) == (["native"], ["universal"], ["universal"])
    assert found["focused"]
    assert found["opacity"] == ["0.25", "0", "0.25"]
    label = image_of(members(tmp_path / url)[f"{key}.universal.png"])
    names = np.array([*load_taxonomy("universal").classes, *[""] * 61, "ignored"])
    assert found["under"] == names[label].ravel().tolist()
