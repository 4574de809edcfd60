"""docs/datasets.md says of every dataset what the registry says."""

import re

import pytest

from segstream.shards.datasets.registry import dataset_names, registry
from segstream.shards.taxonomy import load_taxonomy
from tests.commands import ROOT

TEXT = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n)*)", TEXT, flags=re.MULTILINE))


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


TABLE = {row[0]: row[1:] for row in map(cells, re.findall(r"^\| \[`.*", TEXT, flags=re.MULTILINE))}


def universal(taxonomy):
    """Universal classes that labels become, or whose predictions count."""
    ids = taxonomy.to_universal or [u for u, _ in taxonomy.from_universal]
    return len(set(ids) - {255})


def test_every_dataset_has_its_section_and_its_row():
    assert list(SECTIONS) == list(registry())
    assert list(TABLE) == [f"[`{name}`](#{name})" for name in registry()]


@pytest.mark.parametrize("name", registry())
def test_sections_say_what_the_registry_says(name):
    facts, section = registry()[name], SECTIONS[name]
    taxonomy = load_taxonomy(facts.taxonomy or name)
    role, classes, reached, images = TABLE[f"[`{name}`](#{name})"]
    assert role == facts.role
    if facts.labels:
        assert (int(classes), int(reached)) == (taxonomy.num_classes, universal(taxonomy))
        assert f"{taxonomy.num_classes} classes, " in section
        assert f"{universal(taxonomy)} universal classes" in section
    else:
        assert (classes, reached) == ("-", "-")
    for split, count in facts.splits.items():
        shown = split if count is None else f"{split} {count:,}"
        assert split in facts.optional or re.search(rf"\b{shown}\b", images)
        assert re.search(rf"\| becomes \|.*\b{shown}\b", section)
    if facts.total is not None:
        assert f"{facts.total:,} in all" in images
    if f"{name}-relabeled" in dataset_names():
        assert f", {load_taxonomy(f'{name}-relabeled').num_classes} relabelled" in section
    assert f"| licence | {facts.licence} |" in section
    assert facts.title in section
    assert facts.home in section
    for archive in facts.archives:
        assert archive.inside or f"`{archive.name}`" in section
    for pattern, what in facts.layout.items():
        assert re.search(rf"^{re.escape(pattern)} +{re.escape(what)}$", section, flags=re.MULTILINE)
    assert f"`segstream datasets {name} --check DIR`" in section
    assert (f"`segstream datasets {name} --download DIR`" in section) == facts.downloads
