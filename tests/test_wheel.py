"""The wheel, installed outside the checkout: all modules and data are there, a search runs.

The environment is fresh but for the dependencies, which it takes from this one: copying torch
would cost minutes and gigabytes.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.wheel

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("kernels", "backbones", "search_spaces", "nas")


def call(*command, cwd):
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tracked(*folders):
    """Names of the files of this checkout, relative to its root."""
    listed = call("git", "ls-files", "-co", "--exclude-standard", "--", *folders, cwd=ROOT)
    return [name for name in listed.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that no earlier build in the checkout is packed as well."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    call(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", ".", "-w", out, cwd=source)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def home(wheel, tmp_path_factory):
    """A folder with an environment in `env` that has the wheel, not the checkout."""
    home = tmp_path_factory.mktemp("home")
    call(sys.executable, "-m", "venv", "--without-pip", "env", cwd=home)
    python = home / "env" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps")
    call(*pip, wheel, cwd=home)
    # A path in a .pth file is searched, but the .pth files in it are not read: an editable
    # installation of the checkout stays out of sight.
    (site,) = (home / "env" / "lib").glob("python*/site-packages")
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "dependencies.pth").write_text("\n".join(sorted(paths)))
    where = call(
        python, "-c", "import nas, kernels; print(nas.__file__, kernels.__file__)", cwd=home
    )
    assert all(path.startswith(str(site)) for path in where.split())
    return home


def test_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == set(tracked(*PACKAGES))


def test_installed_command_lists_what_is_shipped(home):
    scannas = home / "env" / "bin" / "scannas"
    spaces = json.loads(call(scannas, "spaces", "--json", cwd=home))
    assert {s["space"] for s in spaces} == {p.stem for p in (ROOT / "search_spaces").glob("*.yaml")}
    presets = json.loads(call(scannas, "presets", "--json", cwd=home))
    shipped = {p.stem for p in (ROOT / "backbones" / "presets").glob("*.yaml")}
    assert {p["preset"] for p in presets} == shipped


def test_installed_command_searches_and_exports(home):
    scannas = home / "env" / "bin" / "scannas"
    search = "search --space mambaout --budget 4.5GFLOPs --warm-start none --data digits".split()
    said = call(scannas, *search, "--trials", 1, "--epochs", 1, "--study", "one", cwd=home)
    assert "1 of 1 candidates are done" in said
    (exported,) = (home / "runs" / "exports").glob("one-trial*.yaml")
    call(scannas, "profile", exported, cwd=home)
    assert json.loads(call(scannas, "db", "check", "--json", cwd=home)) == []
    measured = "from nas.evidence.reliability import load_measurements as m; print(m())"
    assert "Reliability(" in call(home / "env" / "bin" / "python", "-c", measured, cwd=home)
