"""The arrows of the architecture: cli -> model, pipeline, shards; pipeline -> shards; model -> taxonomy and errors."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
MAY = {
    "shards": {"shards"},
    "pipeline": {"pipeline", "shards"},
    "model": {"model", "segstream.shards.taxonomy", "segstream.shards.errors"},
    "cli": {"cli", "model", "pipeline", "shards"},
}


def imported(file: Path) -> list[tuple[int, str]]:
    names = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append((node.lineno, node.module or ""))
    return names


def test_imports_point_one_way():
    wrong = []
    for room, may in MAY.items():
        files = sorted((ROOT / room).rglob("*.py"))
        assert files, room
        for file in files:
            for line, name in imported(file):
                if name.split(".")[0] in MAY and not any(name == m or name.startswith(m + ".") for m in may):
                    wrong.append(f"{file}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_the_table_of_the_architecture_names_every_module_of_the_command_line():
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page.split("## Where to look")[1]
    names = {path.stem for path in (ROOT / "cli").glob("*.py")} - {"__init__"}
    assert [name for name in sorted(names) if f"cli/{name}.py" not in table and f"`{name}`" not in table] == []
