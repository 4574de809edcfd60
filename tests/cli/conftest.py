"""What pages need; commands are run by the fixtures of `tests.commands`."""

from html.parser import HTMLParser

import pytest

from segstream.shards.convert.convert import convert
from tests.shards import trees


@pytest.fixture(scope="session")
def sets(tmp_path_factory):
    """URLs of three small sets: with universal labels, with lossless images, and held out."""
    place = tmp_path_factory.mktemp("show")
    drawn = {
        "ade20k-150": ("train", trees.ade20k(place / "ade")),
        "cityscapes-19": ("val", trees.cityscapes(place / "city")),
        "camvid-11": ("val", trees.camvid(place / "camvid")),
    }
    return {n: convert(n, split=s, raw=raw, out=place, shard_samples=2).url for n, (s, raw) in drawn.items()}


class Page(HTMLParser):
    """Collects what a page loads, its table cells, and whether its tags close."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.cells, self.open, self.seen = [], [], [], set[str]()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.loads += [value for key, value in attrs if key in ("src", "href", "srcset", "action")]
        if tag not in ("meta", "img", "input", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("path",):
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)
