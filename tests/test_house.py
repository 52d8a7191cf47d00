"""Where things live: files import one way, and none of them is too long to hold in the head."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("kernels", "backbones", "search_spaces", "nas")
LONGEST_FILE, LONGEST_FUNCTION = 400, 60
# Low to high, each importing what is before it; a set holds rooms that know nothing of each other.
LAYERS = (
    {"nas.errors"},
    {"nas.study"},
    {"nas.store", "nas.planning", "nas.training", "nas.evidence"},
    {"nas.driver"},
    {"nas.executors"},
    {"nas.export", "nas.full_training"},
    {"nas.report"},
    {"nas.api"},
    {"nas.questions"},
    {"nas.commands"},
)


@cache
def modules() -> dict[str, Path]:
    """Every shipped module by its dotted name."""
    found = {}
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, name: str) -> set[str]:
    """The modules of the project that a file names in an import, lazy and type-only ones too."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(part for part in (above, node.module) if part)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in modules() else base)
    return {module for module in found if module in modules()} - {name}


@cache
def arrows() -> dict[str, set[str]]:
    """Module -> the modules that it imports."""
    return {name: imported(path, name) for name, path in modules().items()}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The sets of modules that reach each other, each sorted."""

    def reached(start: str) -> set[str]:
        seen, ahead = set(), [start]
        while ahead:
            for module in graph[ahead.pop()] - seen:
                seen.add(module)
                ahead.append(module)
        return seen

    reach = {name: reached(name) for name in graph}
    found = {
        tuple(sorted({name} | {other for other in reach[name] if name in reach[other]}))
        for name in graph
        if name in reach[name]
    }
    return sorted(list(circle) for circle in found)


def height(module: str) -> int:
    """The layer of a module of nas."""
    return next(i for i, layer in enumerate(LAYERS) if ".".join(module.split(".")[:2]) in layer)


def test_circle_is_found_however_long():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": set()}) == []


def test_imports_are_found_wherever_they_stand(tmp_path):
    file = tmp_path / "f.py"
    file.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from nas.study import recipe\n"
        "def f():\n    import nas.store.runs\n    from nas.driver.clock import Clock\n"
    )
    assert imported(file, "nas.f") == {"nas.study.recipe", "nas.store.runs", "nas.driver.clock"}


def test_no_files_import_in_a_circle():
    """Type-only and lazy imports included: a circle hidden in a function is a circle."""
    assert circles(arrows()) == []


def test_no_arrow_runs_back_up_inside_nas():
    wrong = [
        f"{name} imports {other}"
        for name, others in arrows().items()
        for other in others
        if name.startswith("nas.") and other.startswith("nas.")
        if height(other) > height(name)
        or (height(other) == height(name) and name.split(".")[1] != other.split(".")[1])
    ]
    assert wrong == []


def is_compiled(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether numba or Triton compiles a function: cutting it would cost registers or inlining."""
    names = [ast.unparse(decorator) for decorator in function.decorator_list]
    return any(name.startswith(("triton.jit", "numba.", "kernel")) for name in names)


def test_no_file_or_function_is_too_long_to_hold_in_the_head():
    """Compiled kernels and the steps of migrations excepted."""
    long = []
    for name, path in modules().items():
        if name.startswith("nas.store.migrations.versions"):
            continue
        text = path.read_text()
        if (lines := len(text.splitlines())) > LONGEST_FILE:
            long.append(f"{name}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or is_compiled(node):
                continue
            if (lines := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION:
                long.append(f"{name}.{node.name}: {lines} lines")
    assert long == []


def test_worker_loads_neither_database_nor_strategies():
    """What Ray starts on every node: one attempt through the wire, in a process of its own."""
    code = f"""
import json, sys
sys.path.insert(0, {str(ROOT / "tests" / "nas")!r})
from nas.executors.worker import carry_out_in_worker
from nas.executors.wire import FINAL, result_from
from nas.study.recipe import Recipe
from backbones import load_config
lease = dict(run_id=1, owner="o", token=1)
attempt = dict(
    lease=lease, trial=0, attempt=1, role="candidate", label=None, kind="k", fingerprint="f",
    flops=1, params=1, config=load_config("mambaout_femto").to_dict(), seed=0, device="cpu",
    recipe=Recipe(dataset="digits", epochs=1, train_size=64, val_size=64, image_size=16,
                  stem_stride=2, flops_ratio=1e-4).to_dict(),
    backend="reference", checkpoint=None, timeout_s=None, costs=(), split="val",
)
told = []
carry_out_in_worker(attempt, told.append, None)
result = result_from(told[-1][FINAL])
heavy = ("optuna", "sqlalchemy", "alembic")
loaded = [m for m in heavy if m in sys.modules]
print(json.dumps([result.outcome.value, result.environment["host"] != "", loaded]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == ["complete", True, []]
