"""The files of the room import one way: lazy and type-only imports included."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import backbones

ROOT = Path(backbones.__file__).parent


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def imports(path: Path, known: set[str]) -> set[str]:
    """Return the files of the room that a file names in any import, wherever it stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
    return (found & known) - {"backbones", module_of(path)}


def test_files_import_without_a_circle():
    files = {module_of(path): path for path in ROOT.rglob("*.py")}
    graph = {name: imports(path, set(files)) for name, path in files.items()}
    order = list(TopologicalSorter(graph).static_order())  # CycleError names the files
    place = {name: i for i, name in enumerate(order)}
    assert place["backbones.registry"] < place["backbones.orders.base"]
    assert place["backbones.mixers.ssm"] < place["backbones.config"] < place["backbones.network"]


def test_only_official_names_and_norms_decide_by_kind():
    """What is true of a mixer, an order, a stem is stated there: others ask."""
    told = {"official/names.py", "norms.py", "tally.py"}  # names of files; two sorts of norm
    deciding = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and isinstance(node.left, ast.Attribute):
                if node.left.attr == "kind":
                    deciding.add(path.relative_to(ROOT).as_posix())
    assert deciding - told == {"mixers/ssm.py"}  # of its own convolution


def test_files_and_functions_are_small():
    for path in ROOT.rglob("*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 60, (path, node.name)
