"""Recipes that ship: each loads, says what was measured of it, and is named in mistakes."""

import pytest

from nas.errors import DataError
from nas.study import named_recipes
from nas.study.named_recipes import list_recipes, load_recipe


def test_shipped_recipes_load_and_say_that_nobody_measured_them():
    assert list_recipes() == ["gpu_15min", "gpu_2min"]
    for name in list_recipes():
        recipe = load_recipe(name)
        assert recipe.score == "skill" and recipe.precision == "bf16"
        text = (named_recipes._SHIPPED / f"{name}.yaml").read_text()
        assert "UNMEASURED" in text


def test_file_is_read_and_a_typo_is_met(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("schema: 1\nepochs: 7\n")
    assert load_recipe(path).epochs == 7
    with pytest.raises(DataError, match="no recipe 'gpu_2mins'; did you mean 'gpu_2min'"):
        load_recipe("gpu_2mins")
    with pytest.raises(DataError, match=r"absent\.yaml"):
        load_recipe(tmp_path / "absent.yaml")
