"""Recipes: written, read, refused."""

import pytest
from pydantic import ValidationError

from nas.errors import DataError
from nas.study.recipe import CPU_DENSE_RECIPE, CPU_RECIPE, GPU_RECIPE, Recipe, default_recipe


@pytest.mark.parametrize("recipe", [CPU_RECIPE, GPU_RECIPE, Recipe(dataset="folder:/x", ema=0.9)])
def test_yaml_round_trip_gives_an_equal_recipe(recipe):
    again = Recipe.from_yaml(recipe.to_yaml())
    assert again == recipe
    assert again.fingerprint() == recipe.fingerprint()


def test_dictionary_holds_every_field():
    assert set(Recipe().to_dict()) == {"schema", *Recipe.model_fields} - {"schema_"}


def test_fingerprints_of_stored_studies_stay():
    """As they were before recipes had tasks; rows of that time lack the new fields."""
    known = {
        "6c82a6837cd9095f6c8c3fcc949432b2327dade8db4c69400d2a34ed41b19992": CPU_RECIPE,
        "1e515b62c9c2740caaf480fab878caa91610b14897399f27b85c3b5dd3ca4df5": GPU_RECIPE,
        "d9404119e39f492c667a1d50c9fab40641aa0035506c112b1d597b90bb64a8e6": default_recipe(
            "cpu", "folder:/x"
        ),
    }
    later = ("task", "density", "mask_share", "mask_shape", "weight", "also")
    for fingerprint, recipe in known.items():
        assert recipe.fingerprint() == fingerprint
        row = {k: v for k, v in recipe.to_dict().items() if k not in later}
        assert Recipe.model_validate(row) == recipe
    used = [{"task": "dense"}, {"density": 0.3}, {"mask_share": 0.5}, {"also": [{"task": "dense"}]}]
    made = {Recipe(**{"score": "skill", **fields}).fingerprint() for fields in used}
    assert len(made | {Recipe(score="skill").fingerprint()}) == 5


def test_score_of_an_epoch_is_the_stored_one_or_made_of_what_old_rows_hold():
    assert Recipe().score_of({"score": -0.5, "val_top1": 0.1, "val_loss": 1.0}) == -0.5
    assert Recipe().score_of({"val_top1": 0.1, "val_loss": 1.0}) == 0.1
    old = {"val_top1": 0.1, "val_loss": 0.0}
    assert Recipe(score="likelihood").score_of(old) == 1.0
    assert Recipe(score="likelihood").score_of(old | {"val_loss": float("nan")}) == 0.0


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
    assert default_recipe("cpu") == CPU_DENSE_RECIPE == default_recipe("cpu", "photographs")
    assert default_recipe("cuda:1") == GPU_RECIPE
    assert default_recipe("cpu", epochs=7).epochs == 7
    with pytest.raises(DataError, match="epochs 0"):
        default_recipe("cpu", epochs=0)


def test_generated_set_of_another_task_brings_the_task():
    assert default_recipe("cpu", dataset="relations").task == "dense"
    made = default_recipe("cpu", dataset="photographs")
    assert (made.task, made.score) == ("reconstruct", "skill")
    assert default_recipe("cpu", dataset="scenes") == CPU_RECIPE


def test_photographs_get_four_pixels_a_token_on_the_same_grid():
    photos = default_recipe("cpu", dataset="folder:/photos")
    assert photos.stem_stride == 4 and photos.augment == "flip"
    grid = CPU_RECIPE.image_size // CPU_RECIPE.stem_stride
    assert photos.image_size // photos.stem_stride == grid
    assert default_recipe("cpu", dataset="digits").image_size == CPU_RECIPE.image_size


def test_half_batch_keeps_the_update_and_ends():
    recipe = Recipe(batch_size=8)
    assert recipe.half_batch().accumulate == 2
    assert recipe.half_batch().batch_size == 8
    with pytest.raises(DataError, match="batch_size 8"):
        recipe.half_batch().half_batch().half_batch()


def test_recipe_is_frozen():
    with pytest.raises(ValidationError):
        Recipe().epochs = 5
