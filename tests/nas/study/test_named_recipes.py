"""Recipes that ship: each loads, says what was measured of it, and is named in mistakes."""

import pytest

from nas.errors import DataError
from nas.study import named_recipes
from nas.study.named_recipes import list_recipes, load_recipe


def test_shipped_recipes_load():
    assert list_recipes() == ["far", "gpu_15min", "gpu_2min"]
    assert all(load_recipe(name).score == "skill" for name in list_recipes())


def test_recipes_that_nobody_measured_say_so():
    for name in ("gpu_2min", "gpu_15min"):
        assert load_recipe(name).precision == "bf16"
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
