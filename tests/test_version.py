"""The version is written in two places; they must agree."""

import re
import tomllib

from tests.commands import ROOT


def test_the_project_version_is_the_topmost_changelog_entry():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    entries = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    released = [entry for entry in entries if entry.lower() != "unreleased"]
    assert released, "CHANGELOG.md has no version entry (## [X.Y.Z] - DATE)"
    assert released[0] == project["version"]
