"""Recipes: written, read, refused."""

import pytest
from pydantic import ValidationError

from nas.errors import DataError
from nas.study.recipe import CPU_RECIPE, GPU_RECIPE, Recipe, default_recipe


@pytest.mark.parametrize("recipe", [CPU_RECIPE, GPU_RECIPE, Recipe(dataset="folder:/x", ema=0.9)])
def test_yaml_round_trip_gives_an_equal_recipe(recipe):
    again = Recipe.from_yaml(recipe.to_yaml())
    assert again == recipe
    assert again.fingerprint() == recipe.fingerprint()


def test_dictionary_holds_every_field():
    assert set(Recipe().to_dict()) == {"schema", *Recipe.model_fields} - {"schema_"}


def test_fingerprint_ignores_files_and_threads_and_nothing_else():
    base = Recipe()
    same = base.model_copy(update={"data_dir": "/x", "threads": 7})
    assert same.fingerprint() == base.fingerprint()
    changed = {"dataset": "digits", "lr": 1e-3, "score": "likelihood", "epochs": 4}
    changed["score"] = "top1" if base.score == "likelihood" else "likelihood"
    for name, value in changed.items():
        assert base.model_copy(update={name: value}).fingerprint() != base.fingerprint(), name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("schema: 1\nepoch: 3\n", ["r.yaml:2", "epoch", "epochs"]),
        ("schema: 1\nepochs: 0\n", ["r.yaml:2", "epochs", "greater than 0"]),
        ("schema: 1\nlr: fast\n", ["r.yaml:2", "lr", "number"]),
        ("schema: 2\n", ["r.yaml:1", "schema"]),
        ("schema: 1\nimage_size: 8\nstem_stride: 8\n", ["stem_stride"]),
        ("schema: 1\nimage_size: 8\nstem_stride: 4\nbatch_size: 4\naccumulate: 4\n", ["passes"]),
        ("epochs: [\n", ["r.yaml:2", "YAML"]),
        ("schema: 1\ndataset: 'folder:'\n", ["names nothing"]),
    ],
)
def test_mistake_in_a_file_names_line_field_and_rule(tmp_path, text, words):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        Recipe.load(path)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_missing_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=r"absent\.yaml"):
        Recipe.load(tmp_path / "absent.yaml")


def test_default_follows_the_device():
    assert default_recipe("cpu") == CPU_RECIPE
    assert default_recipe("cuda:1") == GPU_RECIPE
    assert default_recipe("cpu", epochs=7).epochs == 7
    with pytest.raises(DataError, match="epochs 0"):
        default_recipe("cpu", epochs=0)


def test_photographs_get_four_pixels_a_token_on_the_same_grid():
    photos = default_recipe("cpu", dataset="folder:/photos")
    assert photos.stem_stride == 4 and photos.augment == "flip"
    grid = CPU_RECIPE.image_size // CPU_RECIPE.stem_stride
    assert photos.image_size // photos.stem_stride == grid
    assert default_recipe("cpu", dataset="patterns").image_size == CPU_RECIPE.image_size


def test_half_batch_keeps_the_update_and_ends():
    recipe = Recipe(batch_size=8)
    assert recipe.half_batch().accumulate == 2
    assert recipe.half_batch().batch_size == 8
    with pytest.raises(DataError, match="batch_size 8"):
        recipe.half_batch().half_batch().half_batch()


def test_recipe_is_frozen():
    with pytest.raises(ValidationError):
        Recipe().epochs = 5
