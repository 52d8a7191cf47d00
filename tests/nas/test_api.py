"""A search from Python is the command's, and takes a user's own scores and data."""

import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
import torch
import yaml
from doubles import GRID
from PIL import Image

import nas
from kernels.errors import ScanNASError
from nas import Study, search
from nas.api import Where
from nas.commands.main import main
from nas.commands.options import Machines
from nas.errors import DataError, StudyError
from nas.study.recipe import Recipe
from nas.training.data.keep import keep_dataset

BUDGET = "60MFLOPs"
SPACE = yaml.safe_load(GRID)
seen = []


def by_kernel(config, context):
    """Score designs by the size of their kernel; known only to the test."""
    seen.append((context.seed, context.split, config.blocks["g"].mixer.kernel))
    kernel = config.blocks["g"].mixer.kernel
    context.report(1, kernel - 1.0)
    return {"score": float(kernel), "half": kernel / 2}


def run(url, **options):
    stated = {"space": SPACE, "budget": BUDGET, "trials": 6, "storage": url, "plain": True}
    return search(**(stated | {"confirm": "none", "device": "cpu"} | options))


def test_own_evaluation_decides_the_search(sqlite_url, tmp_path):
    seen.clear()
    study = run(sqlite_url, evaluate=by_kernel, seed=3)
    assert study.best.score == max(kernel for _, _, kernel in seen)
    assert study.best.config.blocks["g"].mixer.kernel == study.best.score
    assert len({seed for seed, _, _ in seen}) == 1
    frame = study.frame()
    assert len(frame) == 6
    assert set(frame["choices.kernel"]) <= {3, 5, 7, 9}
    assert study.pareto[0].score == study.best.score
    assert study.baselines == []
    assert study.verdict is None
    path = study.export(tmp_path / "best.yaml")
    assert yaml.safe_load(path.read_text())["source"]["trial"] == study.best.trial
    assert study.best.build(num_classes=3)(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
    again = Study.open(study.name, sqlite_url)
    assert again.best == study.best
    more = again.resume(8, evaluate=by_kernel, plain=True)
    assert len(more.frame()) == 8


def test_confirmation_scores_the_test_split(sqlite_url):
    study = run(sqlite_url, evaluate=by_kernel, trials=3)
    seen.clear()
    confirmed = study.confirm("2x2", evaluate=by_kernel, plain=True)
    assert {split for _, split, _ in seen} == {"test"}
    assert confirmed.verdict is not None


def test_a_session_that_is_over_must_hand_its_function_again(sqlite_url):
    def local(config, context):
        return 1.0

    study = run(sqlite_url, evaluate=local, trials=1)
    with pytest.raises(DataError, match="made in a session that is over; pass the function again"):
        study.resume(2, plain=True)
    with pytest.raises(StudyError, match=r"scored by .*local, not by .*by_kernel.*begin a new"):
        study.resume(2, evaluate=by_kernel, plain=True)
    assert len(study.resume(2, evaluate=local, plain=True).frame()) == 2


@pytest.mark.parametrize(
    "answer, said",
    [
        ("good", "return a number, or a dict of numbers by name"),
        ({"top1": 1.0}, "no 'score': higher is better"),
        (float("nan"), "evaluate returned score nan"),
    ],
)
def test_answers_that_are_no_score_are_said(sqlite_url, capsys, answer, said):
    study = run(sqlite_url, evaluate=lambda config, context: answer, trials=1)
    assert said in capsys.readouterr().out
    assert study.best is None


@pytest.mark.parametrize(
    "name, said",
    [
        ("scores", "is no module:function; give module:function"),
        ("no_such_module:score", "No module named 'no_such_module'"),
        ("math:scor", "module 'math' has no attribute 'scor'"),
        ("math:pi", "is no function but a float"),
    ],
)
def test_evaluations_that_cannot_be_found_are_said(sqlite_url, name, said):
    with pytest.raises(DataError, match=said):
        run(sqlite_url, evaluate=name)


MODULE = """
def score(config, context):
    return config.blocks["g"].mixer.kernel / 10
"""


def test_command_takes_a_function_by_its_name(tmp_path, monkeypatch, capsys):
    (tmp_path / "own_scores.py").write_text(MODULE)
    (tmp_path / "grid.yaml").write_text(GRID)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    options = f"--space grid.yaml --budget {BUDGET} --trials 2 --confirm none --device cpu"
    words = f"search {options} --plain --study own --evaluate own_scores:score"
    monkeypatch.setattr(sys, "argv", ["cli.py", *words.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0, capsys.readouterr().err
    study = Study.open("own")
    assert study.best.score in (0.3, 0.5, 0.7, 0.9)
    assert study.resume(3, plain=True).finished.done == 3


@pytest.mark.slow
def test_own_evaluation_runs_on_ray_workers(sqlite_url, tmp_path, monkeypatch):
    (tmp_path / "own_scores.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for evaluate in ("own_scores:score", lambda config, context: 0.5):
        study = run(sqlite_url, evaluate=evaluate, trials=2, executor="ray", workers=2)
        assert study.finished.done == 2
        assert study.best is not None


class Stripes:
    """Images of two classes: across and down."""

    classes = ("across", "down")

    def __init__(self, form):
        self.form = form

    def __len__(self):
        return 64

    def __getitem__(self, n):
        if n >= len(self):
            raise IndexError(n)
        image = np.zeros((16, 16, 3), np.uint8)
        image[:: 2 + n // 32] = 255
        image = image if n % 2 == 0 else image.transpose(1, 0, 2)
        return self.form(np.ascontiguousarray(image)), n % 2


FORMS = {
    "pil": Image.fromarray,
    "bytes": lambda a: torch.from_numpy(a).permute(2, 0, 1),
    "floats": lambda a: torch.from_numpy(a).permute(2, 0, 1) / 255,
    "gray": lambda a: torch.from_numpy(a)[..., 0],
}


def test_data_set_of_any_form_is_the_same_folder(tmp_path):
    kept = {keep_dataset(Stripes(form), tmp_path) for form in FORMS.values()}
    [name] = kept
    assert name.startswith(f"folder:{tmp_path}/own-")
    assert sum(1 for _ in tmp_path.rglob("*.png")) == 64
    assert [p.name for p in tmp_path.iterdir()] == [name.rpartition("/")[2]]


def test_search_trains_on_a_torch_data_set(sqlite_url):
    recipe = Recipe(image_size=16, stem_stride=2, epochs=1, batch_size=8, threads=1)
    study = run(sqlite_url, data=Stripes(FORMS["pil"]), recipe=recipe, trials=1)
    assert study.best.score is not None
    assert study.summary()["study"]["recipe"]["dataset"].startswith("folder:")


@pytest.mark.parametrize(
    "items, said",
    [
        ([1], "item 0 of the data set is a int; give pairs"),
        ([(torch.full((3, 8, 8), 2.0), 0)], "values in 2 to 2; give floats in 0 to 1"),
        ([(torch.zeros(8), 0)], "give PIL images, or"),
        ([(torch.zeros(3, 8, 8), "cat")], "give a class number, or a mask"),
    ],
)
def test_data_sets_of_other_things_are_refused(tmp_path, items, said):
    with pytest.raises(DataError, match=said):
        keep_dataset(items, tmp_path)
    assert not any(tmp_path.iterdir())


def test_options_are_the_commands():
    assert {f.name for f in fields(Where)} | {"plain"} == {f.name for f in fields(Machines)}


def test_mistakes_are_said_before_anything_is_trained(sqlite_url, tmp_path):
    with pytest.raises(StudyError, match="unknown option 'worker'; did you mean 'workers'"):
        run(sqlite_url, worker=2)
    with pytest.raises(ScanNASError, match=r"gone|nas\.db"):
        Study.open("gone", sqlite_url)


def test_importing_nas_loads_nothing_heavy():
    code = (
        "import sys, nas; from nas import search, Study; "
        "print(sorted({'torch', 'optuna', 'ray', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="has no attribute 'serch'"):
        _ = nas.serch
