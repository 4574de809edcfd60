"""What the documents show exists: links lead somewhere, commands parse, names are known, make targets are there."""

import re
import shlex

import pytest
import typer

from segstream.cli.main import app
from segstream.recipe import load_recipe
from segstream.shards.datasets.registry import dataset
from segstream.shards.schema import read_yaml
from tests.commands import ROOT

DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = typer.main.get_command(app).commands


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def shown_commands():
    for path in DOCS:
        for block in blocks(path, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["segstream"]:
                    yield pytest.param(words[1], words[2:], id=f"{path.name}: {' '.join(words[1:4])}")


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.name)
def test_relative_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if not re.match(r"https?://|#", target):
            assert (path.parent / target.partition("#")[0]).exists(), target


def test_footnotes_are_defined_once_and_used():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    defined = re.findall(r"^\[\^(\w+)\]:", text, flags=re.MULTILINE)
    used = re.findall(r"\[\^(\w+)\](?!:)", text)
    assert len(defined) == len(set(defined))
    assert set(defined) == set(used)


@pytest.mark.parametrize(("name", "arguments"), list(shown_commands()))
def test_commands_parse_as_shown(name, arguments):
    """Parsed as the command line would, but not run: unknown commands, options and missing values raise."""
    context = COMMANDS[name].make_context(name, list(arguments))
    if name == "train":
        load_recipe(context.params["recipe"], context.params["overrides"] or ())
    if name in ("datasets", "shard") and arguments:
        dataset(str(ROOT / arguments[0]) if arguments[0].endswith(".yaml") else arguments[0])


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.name)
def test_commands_and_targets_named_in_the_text_exist(path):
    text = path.read_text(encoding="utf-8")
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(re.findall(r"`segstream (\w+)", text)) <= set(COMMANDS)
    assert set(re.findall(r"(?:`|^)make (\w+)", text, flags=re.MULTILINE)) <= set(targets)


def test_every_command_is_in_the_readme():
    shown = set(re.findall(r"`segstream (\w+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert set(COMMANDS) <= shown


def test_the_example_of_own_data_is_the_one_the_recipe_trains():
    own = read_yaml(ROOT / "examples" / "camvid.yaml")["name"]
    assert list(load_recipe(str(ROOT / "recipes" / "oracle-camvid.yaml")).data.mix) == [own]
    for path in DOCS:
        assert set(re.findall(r"camvid-(?!11|yaml|pspnet)\w+", path.read_text(encoding="utf-8"))) <= {own}, path.name


def test_the_readme_shows_lines_of_the_example():
    """The excerpt is YAML that the example holds too, comments apart."""
    example = re.sub(r"\s+#.*", "", (ROOT / "examples" / "camvid.yaml").read_text(encoding="utf-8")).splitlines()
    (excerpt,) = blocks(ROOT / "README.md", "yaml")
    for line in re.sub(r"\s*#.*", "", excerpt).splitlines():
        assert line in example or not line, line
