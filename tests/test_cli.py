"""The front door: mistakes are one line and exit code 2, and leave the database as it was."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cli

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Call the command line in this process; gives (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["cli.py", *map(str, args)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return call


def folder_with_one_class(path):
    from PIL import Image

    (path / "cats").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(path / "cats" / "1.png")
    return f"folder:{path}"


def folder_with_corrupt_image(path):
    from PIL import Image

    for name in ("cats", "dogs"):
        (path / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (8, 8)).save(path / name / f"{i}.png")
    (path / "dogs" / "2.png").write_bytes(b"not an image")
    return f"folder:{path}"


SEARCH = ("search", "--space", "quadtree", "--budget", "4.5GFLOPs")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("search", "--space", "quadtre", "--budget", "4.5GFLOPs"), ["quadtre", "quadtree"]),
        (("search", "--space", "quadtree", "--budget", "4.5"), ["'4.5'", "unit"]),
        (("search", "--space", "quadtree", "--budget", "4.5GB"), ["'4.5GB'", "unit"]),
        (("search", "--space", "quadtree", "--budget", "-1GFLOPs"), ["'-1GFLOPs'", "negative"]),
        (
            ("search", "--space", "quadtree", "--budget", "1KFLOPs"),
            ["no width reaches", "costs", "M FLOPs", "what binds"],
        ),
        ((*SEARCH, "--trials", "-3"), ["--trials", "greater than or equal to 1"]),
        ((*SEARCH, "--backend", "cudnn"), ["cudnn", "numba"]),
        ((*SEARCH, "--strategy", "anneal"), ["anneal", "evolution"]),
        ((*SEARCH, "--data", "imagenet22k"), ["imagenet22k", "scenes"]),
        ((*SEARCH, "--data", "folder:nowhere"), ["nowhere", "folder"]),
        ((*SEARCH, "--storage", "sqlite:////proc/nas.db"), ["/proc/nas.db"]),
        ((*SEARCH, "--storage", "mongodb://x"), ["mongodb"]),
        ((*SEARCH, "--ray-address", "127.0.0.1:1"), ["127.0.0.1:1", "--ray-address"]),
        ((*SEARCH, "--executor", "inline", "--workers", "2"), ["inline", "--executor ray"]),
        ((*SEARCH, "--executor", "slurm"), ["slurm", "inline"]),
        ((*SEARCH, "--pruner", "median"), ["median", "asha"]),
        ((*SEARCH, "--workers", "0"), ["--workers"]),
        ((*SEARCH, "--gpus-per-trial", "-1"), ["--gpus-per-trial"]),
        ((*SEARCH, "--checkpoints", "/proc/x"), ["/proc/x"]),
        ((*SEARCH, "--warm-start", "vim_tini"), ["vim_tini", "'vim_tiny'"]),
        ((*SEARCH, "--patience", "0"), ["--patience"]),
        (("profile", "vim_tini"), ["vim_tini", "'vim_tiny'"]),
        (("profile", "vim_tiny", "--sweep", "9:8"), ["'9:8'", "224:1024"]),
        (("export", "vim_tiny"), ["--onnx", "--timm"]),
        (("export", "vim_tiny", "--onnx", "vim.pb"), ["'vim.pb'", ".onnx"]),
        (("export", "vim_tiny", "--timm", ".."), ["'..'", "empty folder"]),
        (("export", "vim_tiny", "--onnx", "v.onnx", "--checkpoint", "no.pth"), ["no.pth"]),
        (("export", "quadmamba_lite", "--onnx", "q.onnx"), ["quadtree", "fixed orders"]),
        (("serch",), ["serch", "search"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_mistake_is_one_line_with_value_and_remedy(run, args, says):
    code, out, err = run(*args)
    assert code == 2, err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    for part in says:
        assert part.lower() in err.lower()


@pytest.mark.parametrize("make", [folder_with_one_class, folder_with_corrupt_image])
def test_unusable_folder_is_refused_before_any_row(run, tmp_path, make):
    data = make(tmp_path / "images")
    code, _, err = run(*SEARCH, "--data", data, "--storage", f"sqlite:///{tmp_path}/nas.db")
    assert code == 2
    assert "images" in err and err.count("\n") == 1
    code, out, _ = run("studies", "--json", "--storage", f"sqlite:///{tmp_path}/nas.db")
    assert code == 2 or json.loads(out) == []


@pytest.mark.parametrize("command", ["resume", "show", "status", "export"])
def test_unknown_study_is_refused_with_the_known_ones(run, tmp_path, command):
    from nas.store.session import open_store

    storage = f"sqlite:///{tmp_path}/nas.db"
    code, _, err = run(command, "ghost", "--storage", storage)
    assert code == 2 and "no database" in err and err.count("\n") == 1
    open_store(storage, create=True).close()
    code, _, err = run(command, "ghost", "--storage", storage)
    assert code == 2 and "'ghost'" in err and err.count("\n") == 1


def test_file_that_is_no_database_is_named_and_untouched(run, tmp_path):
    path = tmp_path / "notes.db"
    path.write_text("these are my notes, not a database\n" * 50)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    for args in (SEARCH, ("studies",), ("show", "s"), ("resume", "s")):
        code, _, err = run(*args, "--storage", f"sqlite:///{path}")
        assert code == 2, args
        assert "notes.db" in err and err.count("\n") == 1
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert [p.name for p in tmp_path.iterdir()] == ["notes.db"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("schema: 1\nname: mine\n  bad: [1\n", 3),
        ("schema: 1\nname: mine\nchoises: {}\n", 3),
    ],
    ids=["malformed", "unknown key"],
)
def test_bad_space_file_is_reported_with_its_line(run, tmp_path, text, line):
    (tmp_path / "mine.yaml").write_text(text)
    code, _, err = run("search", "--space", "mine.yaml", "--budget", "4.5GFLOPs")
    assert code == 2
    assert f"mine.yaml:{line}" in err
    assert err.count("\n") == 1


def test_study_of_another_space_is_not_continued(run, tmp_path):
    from nas.driver.request import search_settings
    from nas.driver.studies import create_study
    from nas.study.budget import parse_budget

    storage = f"sqlite:///{tmp_path}/nas.db"
    made = search_settings(space="mambaout", budget=parse_budget(["4.5GFLOPs"]))
    create_study(made, storage, name="mine").close()
    before = (tmp_path / "nas.db").read_bytes()
    code, _, err = run(*SEARCH, "--study", "mine", "--storage", storage)
    assert code == 2 and err.count("\n") == 1
    assert "study 'mine' cannot be continued" in err and "resume mine" in err
    assert (tmp_path / "nas.db").read_bytes() == before


def test_reading_does_not_create_a_database(run, tmp_path):
    code, _, err = run("studies", "--storage", f"sqlite:///{tmp_path}/none.db")
    assert code == 2
    assert "none.db" in err
    assert list(tmp_path.iterdir()) == []


HEAVY = ("torch", "timm", "optuna", "ray", "numba", "triton", "torchvision", "sklearn", "scipy")


@pytest.mark.parametrize(
    "args",
    [("--help",), ("presets",), ("spaces",), ("spaces", "quadtree"), ("profile", "vim_tiny")],
    ids=" ".join,
)
def test_reading_commands_import_nothing_heavy(args):
    code = (
        "import sys, cli\n"
        f"sys.argv = ['cli.py', *{args!r}]\n"
        "try:\n    cli.main()\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"print('heavy:', sorted(m for m in {HEAVY!r} if m in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.rstrip().endswith("heavy: []")


def test_profile_reports_the_published_numbers(run):
    _, out, _ = run("profile", "vmamba_tiny_s1l8", "--json")
    report = json.loads(out)
    assert report["params"] == 30_249_064
    assert round(report["flops"] / 1e9, 3) == 4.906
    assert sum(row["flops"] for row in report["stages"]) == report["flops"]
    assert sum(row["params"] for row in report["components"]) == report["params"]


def test_doctor_says_why_a_backend_is_missing(run):
    code, out, _ = run("doctor", "--json")
    report = json.loads(out)
    assert code == 0
    assert {"reference", "numba", "triton"} <= {b["backend"] for b in report["backends"]}
    assert all(b["reason"] for b in report["backends"] if not b["available"])


def test_doctor_names_a_foreign_distribution_that_hides_a_package(run, monkeypatch, tmp_path):
    facts = tmp_path / "other" / "kernels-0.9.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: kernels\nVersion: 0.9.0\n")
    (facts / "top_level.txt").write_text("kernels\n")
    assert json.loads(run("doctor", "--json")[1])["conflicts"] == []
    monkeypatch.syspath_prepend(tmp_path / "other")
    assert json.loads(run("doctor", "--json")[1])["conflicts"] == [
        {"package": "kernels", "distribution": "kernels", "version": "0.9.0"}
    ]
    _, out, _ = run("doctor")
    assert "pip uninstall kernels" in " ".join(out.split())


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("search --space vm", ["vmamba"]),
        ("search --strategy ns", ["nsga2"]),
        ("profile mambaout_f", ["mambaout_femto"]),
        ("resume --exec", ["--executor"]),
    ],
)
def test_installed_command_completes_without_loading_torch(tmp_path, typed, offered):
    command = tmp_path / "scannas"
    command.write_text(
        "import atexit, sys\nfrom nas.commands.main import main\n"
        f"atexit.register(lambda: print(sorted(set({HEAVY!r}) & set(sys.modules))))\nmain()\n"
    )
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "_SCANNAS_COMPLETE": "complete_bash",
        "COMP_WORDS": f"scannas {typed}",
        "COMP_CWORD": str(len(typed.split())),
    }
    done = subprocess.run(
        [sys.executable, command], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n") == [*offered, "[]", ""]


def test_convert_names_a_missing_checkpoint(run, tmp_path):
    out = tmp_path / "w.safetensors"
    code, _, err = run("convert", "none.pth", "--preset", "vim_tiny", "--out", out)
    assert code == 2
    assert "none.pth" in err and err.count("\n") == 1
    assert not out.exists()
