"""The fixtures of commands are those of `tests.commands`, which `tests/conftest.py` hands to all
tests; here is what pages need.
"""

from html.parser import HTMLParser

import pytest

from segstream.shards.convert.convert import convert
from tests.commands import Command as Command
from tests.commands import Outcome as Outcome
from tests.shards import trees


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """URLs of three small sets: with universal labels, with lossless images, and held out."""
    place = tmp_path_factory.mktemp("show")
    made = {}
    for name, split, tree in (
        ("ade20k-150", "train", trees.ade20k),
        ("cityscapes-19", "val", trees.cityscapes),
        ("camvid-11", "val", trees.camvid),
    ):
        raw = tree(place / "raw" / name)
        made[name] = convert(name, split=split, raw=raw, out=place, shard_samples=2).url
    return made


class Page(HTMLParser):
    """Collects what a page loads, its table cells, and whether its tags close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads, self.cells, self.open, self.seen = list[str | None](), list[str](), list[str](), set[str]()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.loads += [value for key, value in attrs if key in ("src", "href", "srcset", "action")]
        if tag not in ("meta", "img", "input", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path",):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)
