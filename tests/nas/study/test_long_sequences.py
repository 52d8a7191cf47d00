"""Larger images: the proxy's map follows as far as the time of a run allows, and says how far."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.driver.request import search_settings
from nas.errors import DataError
from nas.study.budget import parse_budget
from nas.study.long_sequences import tokens_said, with_tokens
from nas.study.recipe import Recipe

RECIPE = Recipe(
    task="reconstruct", image_size=96, train_size=6400, val_size=1000, batch_size=32, epochs=1
)
SIDES = st.integers(32, 4096)


@given(st.tuples(SIDES, SIDES))
def test_map_grows_with_the_image_and_a_run_sees_no_more_tokens(size):
    followed = with_tokens(RECIPE, size)
    factor = (followed.grid / RECIPE.grid) ** 2
    asked = max(1.0, size[0] * size[1] / 224**2)
    assert 1 <= factor <= min(4.0, asked) + 1e-9
    assert factor == 4 or asked < 4  # as far as it may
    tokens = [r.train_size * r.epochs * r.grid**2 for r in (RECIPE, followed)]
    assert tokens[1] == pytest.approx(tokens[0], rel=0.01)
    updates = [r.train_size / r.batch_size for r in (RECIPE, followed)]
    assert updates[1] == pytest.approx(updates[0], rel=0.1)
    assert followed.batch_size >= 4


def test_usual_images_and_recipes_of_all_images_are_as_they_were():
    assert with_tokens(RECIPE, 224) == with_tokens(RECIPE, (112, 448)) == RECIPE
    whole = RECIPE.model_copy(update={"train_size": None})
    assert with_tokens(whole, 1024) == whole


def test_search_takes_height_by_width_and_says_what_the_proxy_sees_of_it():
    budget = parse_budget(["30GFLOPs"])
    made = search_settings(space="vmamba", budget=budget, image_size=(512, 2048))
    usual = search_settings(space="vmamba", budget=budget)
    assert made.image_size == (512, 2048) and made.to_dict()["image_size"] == [512, 2048]
    assert made.recipe.grid > usual.recipe.grid
    assert tokens_said(usual.recipe.to_dict(), 224) is None
    said = tokens_said(made.recipe.to_dict(), made.image_size)
    assert said.startswith("images of 512x2048 px make maps of 128 x 512 tokens, 65,536; the proxy")
    square = search_settings(space="vmamba", budget=budget, image_size=(256, 256))
    assert square.image_size == 256
    assert "image size is 256, you ask for 512x2048" in square.difference(
        made.model_copy(update={"recipe": square.recipe})
    )


def test_image_size_that_the_stride_does_not_divide_is_refused():
    with pytest.raises(DataError, match=r"image_size 98 is no multiple of stem_stride 4.*use 96"):
        Recipe.from_yaml("schema: 1\ntask: reconstruct\nimage_size: 98")
