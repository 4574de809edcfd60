"""Which folder may import which, no circles, and sizes that can still be read (docs/architecture.md)."""

import ast

import pytest

from tests.commands import ROOT

ROOMS = ("shards", "pipeline", "model", "cli", "benchmarks")
GROUND = {"shards.errors", "shards.taxonomy", "shards.files", "shards.schema"}  # all of shards that model may see
CODECS = {"shards.errors", "shards.taxonomy", "shards.schema", "shards.files", "shards.parallel", "shards.codecs"}
NETWORKS = GROUND | {"model", "model.networks"}  # "model": the modules that lie directly in it
SURFACE = {"", "shards", "pipeline", "model"}  # "": the modules that lie directly in segstream/

# What a folder may import besides itself; a module's folder is its longest prefix named here.
MAY = {
    "shards": set(),  # its ground
    "shards.codecs": CODECS,
    "shards.storage": CODECS,
    "shards.format": CODECS | {"shards.storage"},
    "shards.checks": CODECS | {"shards.storage", "shards.format"},
    "shards.datasets": CODECS | {"shards.storage", "shards.format"},
    "shards.convert": CODECS | {"shards.storage", "shards.format", "shards.datasets"},
    "shards.synthetic": CODECS | {"shards.format", "shards.datasets"},
    "pipeline": {"shards"},
    "model": GROUND,
    "model.networks": NETWORKS,
    "model.losses": NETWORKS,
    "model.training": NETWORKS | {"model.losses"},
    "model.inference": NETWORKS,
    "model.evaluation": NETWORKS | {"model.inference"},
    "": {"shards", "pipeline", "model", "model.networks", "model.training", "model.inference", "model.evaluation"},
    "cli": {"cli", "", "shards", "pipeline", "model"},
    "benchmarks": {"benchmarks", "", "shards", "pipeline", "model"},
}
WHOLE = {"shards", "pipeline", "model", "cli", "benchmarks"}  # a room named by "cli" and the like stands for all of it
EXCEPTIONS = {("cli.commands.bench", "benchmarks")}  # the one command that measures


def modules():
    """Every module of the project by its name below `segstream`."""
    files = [file for room in ROOMS for file in (ROOT / room).rglob("*.py")]
    named = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in files}
    named |= {file.stem: file for file in (ROOT / "segstream").glob("*.py")}
    return {name.removesuffix(".__init__"): file for name, file in sorted(named.items())}


MODULES = modules()


def imports(file, *, at_import=False):
    """(line, dotted name) of what a file imports.

    Args:
        at_import: only what is imported when the module is, not within functions or for types.
    """

    def walk(node):
        for child in ast.iter_child_nodes(node):
            if at_import and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if at_import and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            yield child
            yield from walk(child)

    for node in walk(ast.parse(file.read_text(encoding="utf-8"))):
        yield from ((node.lineno, name) for name in imported_by(node))


def imported_by(node):
    """Dotted names of an import statement."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [f"{node.module}.{alias.name}" for alias in node.names] if isinstance(node, ast.ImportFrom) else []


def ours(name):
    """The module below `segstream` that an imported name means, None for other people's."""
    if name.split(".")[0] != "segstream":
        return None
    parts = name.split(".")[1:]
    while parts and ".".join(parts) not in MODULES:
        parts.pop()
    return ".".join(parts) or "__init__"


def folder(module):
    """The entry of MAY that a module belongs to."""
    parts = module.split(".")
    while parts and ".".join(parts) not in MAY:
        parts.pop()
    return ".".join(parts)


def allowed(importer, imported):
    here, there = folder(importer), folder(imported)
    if here == there or any((importer, room) in EXCEPTIONS for room in (there, there.split(".")[0])):
        return True
    may = MAY[here]
    whole = here in ("pipeline", "", "cli", "benchmarks") or here.startswith("cli")
    return there in may or imported in may or (whole and there.split(".")[0] in may & WHOLE)


@pytest.mark.parametrize("room", [*ROOMS, ""])
def test_imports_point_one_way(room):
    wrong = []
    for name, file in MODULES.items():
        if (name.split(".")[0] if name.split(".")[0] in ROOMS else "") != room:
            continue
        for line, imported in imports(file):
            module = ours(imported)
            if module is not None and not allowed(name, module):
                wrong.append(f"{file.relative_to(ROOT)}:{line} imports {imported}")
    assert not wrong, "\n".join(wrong)


def test_no_room_is_imported_by_its_bare_name():
    files = [*MODULES.values(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]
    found = [f"{f}:{line} {name}" for f in files for line, name in imports(f) if name.split(".")[0] in ROOMS]
    assert not found, "\n".join(found)


def test_no_circle_of_imports():
    graph = {name: {ours(i) for _, i in imports(file, at_import=True)} - {None, name} for name, file in MODULES.items()}
    done = set()

    def visit(name, path):
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for other in sorted(graph.get(name, ())):
                visit(str(other), (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_no_folder_has_more_than_18_modules_and_no_module_more_than_400_lines():
    counts = {}
    for file in MODULES.values():
        counts[file.parent] = counts.get(file.parent, 0) + (file.name != "__init__.py")
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 400, file
    assert not {str(folder): n for folder, n in counts.items() if n > 18}
