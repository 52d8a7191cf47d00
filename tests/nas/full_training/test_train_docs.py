"""docs/train.md and docs/notebook.py keep their word."""

import re
import runpy
from pathlib import Path

import pytest
import yaml

from nas.full_training.recipe import TrainingRecipe, list_recipes, load_recipe

DOCS = Path(__file__).parents[3] / "docs"
TEXT = (DOCS / "train.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.mark.docs
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
