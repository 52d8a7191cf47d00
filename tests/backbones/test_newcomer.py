"""The exercises of CONTRIBUTING: a new file and a line of registration, and the suites find it.

A right part must pass them, and wrong ones must be caught. Each run is a process of its own, in
which the part is registered before the tests are collected.
"""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from contributing import code

HERE = Path(__file__).parent
ORDER, MIXER = ("diagonal", "Add a scan order"), ("depthwise", "Add a mixer")


def carry_out(folder: Path, section: str, kind: str, change=lambda text: text) -> str:
    """Write the file of an exercise, and return its line of registration, in a test's place."""
    name = {"diagonal": "ORDERS", "depthwise": "MIXERS"}[kind]
    module, line = code(section)
    assert len(line.strip().splitlines()) == 1
    (folder / f"my_{kind}.py").write_text(change(module))
    place = line.split(":")[1].strip().strip('",')
    return f"registry.{name}.places.update({{{line.replace(place, f'my_{kind}')}}})"


def suite(folder: Path, lines: list[str], *arguments: str) -> dict[str, bool]:
    """Run tests with parts registered; return which of them pass."""
    text = "from backbones import registry\n" + "\n".join(lines)
    (folder / "newcomer.py").write_text(text + "\n")
    report = folder / "report.xml"
    root = HERE.parent.parent
    path = os.pathsep.join([str(folder), str(root), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-p", "newcomer", "-p", "no:cacheprovider", "-q"]
    done = subprocess.run(
        [*command, f"--junitxml={report}", *arguments],
        env={**os.environ, "PYTHONPATH": path},
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert report.exists(), done.stdout + done.stderr
    cases = ElementTree.parse(report).iter("testcase")
    return {c.get("name", ""): c.find("failure") is None and c.find("error") is None for c in cases}


def found(tests: dict[str, bool], name: str) -> bool:
    """Whether the one test of a name passes."""
    [result] = [passed for test, passed in tests.items() if test.startswith(name)]
    return result


BUILT = [str(HERE / "test_conformance.py"), "-k"]


def test_parts_of_the_exercises_are_found_and_conform(tmp_path):
    lines = [carry_out(tmp_path, section, kind) for kind, section in (ORDER, MIXER)]
    tables = suite(tmp_path, lines, str(HERE / "test_orders.py"), "-k", "diagonal")
    assert len(tables) >= 5
    assert all(tables.values())
    chosen = "(registered and (diagonal or depthwise)) and (any_size or every_parameter or round)"
    networks = suite(tmp_path, lines, *BUILT, chosen)
    assert len(networks) == 2 * (3 + 1 + 2)
    assert all(networks.values())


@pytest.mark.parametrize(
    "wrong", ["np.zeros(height * width, dtype=int)", "np.append(np.arange(height * width - 1), 0)"]
)
def test_orders_that_miss_tokens_are_caught(tmp_path, wrong):
    right = "np.lexsort([rows, rows + cols])"
    line = carry_out(tmp_path, ORDER[1], ORDER[0], lambda text: text.replace(right, wrong))
    tests = suite(tmp_path, [line], str(HERE / "test_orders.py"), "-k", "diagonal")
    assert not found(tests, "test_each_route_visits_every_token_once[diagonal]")


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("self.kernel**2 * width, width, grid", "self.kernel * width, width, grid"),  # weights
        ("grid[0] * grid[1])", "grid[0])"),  # operations
    ],
)
def test_mixers_whose_cost_rule_lies_are_caught(tmp_path, right, wrong):
    line = carry_out(tmp_path, MIXER[1], MIXER[0], lambda text: text.replace(right, wrong))
    tests = suite(tmp_path, [line], *BUILT, "registered and depthwise and any_size")
    assert len(tests) == 3
    assert not any(tests.values())


def test_importing_parts_imports_no_torch():
    code = (
        "import sys; from backbones import registry as r; import backbones.counting;"
        "[p.classes() for p in (r.ORDERS, r.MIXERS, r.STEMS, r.DOWNSAMPLES)];"
        "print([m for m in ('torch', 'timm', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
