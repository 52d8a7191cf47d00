"""docs/train.md and docs/notebook.py keep their word."""

import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
import yaml
from small import images

from nas.commands.main import main
from nas.full_training.recipe import TrainingRecipe, list_recipes, load_recipe

DOCS = Path(__file__).parents[3] / "docs"
TEXT = (DOCS / "train.md").read_text(encoding="utf-8")
# What makes a test of a training: one pass over few pixels.
REDUCED = "--epochs 1 --image-size 32 --batch-size 256 --plain".split()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.mark.slow
def test_the_commands_run_in_their_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flowers = images(tmp_path / "flowers", 80)
    [own] = blocks("yaml")
    (tmp_path / "own.yaml").write_text(own)
    lines = "".join(blocks("bash")).splitlines()
    assert len(lines) == 3
    for line in lines:
        words = shlex.split(line.replace("folder:/data/flowers", flowers))
        assert words[:2] == ["python", "cli.py"]
        more = REDUCED if words[2] == "train" else ["--json"]
        monkeypatch.setattr(sys, "argv", [*words[1:], *more])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert ended.value.code == 0, err
    assert [row["image_size"] for row in json.loads(out)["sizes"]] == [64, 96]
    assert (tmp_path / "runs/train/own/result.json").is_file()


def test_the_python_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [code] = blocks("python")
    names = {"__name__": "docs"}
    exec(code, names)
    assert len(names["study"].frame()) == 3


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path(str(DOCS / "notebook.py"))
    assert [row.image_size for row in names["found"].sizes] == [32, 48]


def test_every_recipe_is_in_the_table_with_its_numbers():
    for name in list_recipes():
        recipe = load_recipe(name)
        row = re.search(rf"^\| `{name}`.*\| (\d+) \| (\d+) \|$", TEXT, flags=re.MULTILINE)
        assert row, name
        assert (int(row[1]), int(row[2])) == (recipe.epochs, recipe.batch_size)


def test_the_example_recipe_is_one():
    [text] = blocks("yaml")
    assert TrainingRecipe.model_validate(yaml.safe_load(text)).layer_decay == 0.75
