"""Recipes by name, and what is said of those that are none."""

import pytest

from nas.errors import TrainingError
from nas.full_training.recipe import TrainingRecipe, list_recipes, load_recipe


@pytest.mark.parametrize("name", list_recipes())
def test_shipped_recipes_load_and_say_their_source(name):
    recipe = load_recipe(name)
    assert recipe.source
    assert TrainingRecipe.model_validate(recipe.to_dict()) == recipe


def test_papers_learning_rates():
    peaks = {name: load_recipe(name).peak_lr for name in ("deit", "swin", "vmamba", "mambaout")}
    assert peaks == {"deit": 1e-3, "swin": 1e-3, "vmamba": 1e-3, "mambaout": 4e-3}
    assert load_recipe("swin").changed(batch_size=256).peak_lr == 2.5e-4


def test_unknown_recipe_names_the_nearest():
    with pytest.raises(TrainingError, match="recipe 'diet' is unknown; did you mean 'deit'"):
        load_recipe("diet")


def test_unknown_key_names_line_and_nearest(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("schema: 1\nepochs: 30\nmixip: 0.8\n")
    with pytest.raises(TrainingError, match=r"own.yaml:3: .*mixip.*did you mean 'mixup'"):
        load_recipe(path)


def test_warm_up_of_all_epochs_is_refused(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("schema: 1\nepochs: 10\n")
    with pytest.raises(TrainingError, match="warmup_epochs 20 of 10 epochs leave none to train"):
        load_recipe(path)
    assert load_recipe("swin").changed(epochs=10).warmup_epochs == 1
