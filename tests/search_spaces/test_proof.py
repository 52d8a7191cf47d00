"""Spaces that load hold what they say: search_spaces/proof.py."""

import pytest
from hypothesis import given, settings
from small_spaces import SHIFTED, TINY, rng, seeds, space

from search_spaces import SearchSpace, SpaceError, list_spaces

MERGED = (
    SHIFTED.split("  shift:")[0].replace("[raster, cross, snake]", "ORDERS")
    + "  merge: {options: [sum, attention], sets: blocks.s.mixer.merge}\n"
)
LEVELS = (
    "  levels:\n    options: [[2, 4], [2, 8]]\n    sets: blocks.q.mixer.order.levels\n"
    "    when: {mixer: {contains: q}}\n"
)


def merged(orders, more=""):
    return SearchSpace.from_text(MERGED.replace("ORDERS", orders) + more)


def with_choice(choice):
    return TINY.replace(LEVELS, f"  extra: {choice}\n")


@pytest.mark.parametrize("orders", ["[atrous, cross]", "[cross, atrous]", "[cross, atrous, snake]"])
def test_two_options_that_exclude_each_other_are_refused_with_the_constraint_to_add(orders):
    with pytest.raises(SpaceError) as caught:
        merged(orders)
    rule = "{if: {scan: atrous}, then: {merge: {not: attention}}}"
    assert str(caught.value) == (
        "inline space:8: choices.merge: attention does not go with scan atrous: blocks.s.mixer: "
        "merge attention needs whole routes, which order atrous has not; use merge sum; add the "
        f"constraint {rule}"
    )
    loaded = merged(orders, f"constraints:\n- {rule}\n")
    for seed in range(20):
        loaded.build(loaded.mutate(loaded.sample(rng(seed)), rng(seed)))


def test_options_that_meet_outside_the_blocks_are_tried_together():
    text = """\
schema: 1
name: tokens
base: vim_tiny
choices:
  conv: {options: {causal: {kind: causal, kernel: 4}, map: {kind: 2d}}, sets: blocks.m.mixer.conv}
  readout:
    options:
      token: {class_token: middle, head.pool: token}
      mean: {class_token: none, head.pool: mean}
"""
    with pytest.raises(SpaceError, match=r"add the constraint \{if: \{conv: map\}, then: "):
        SearchSpace.from_text(text)


@settings(deadline=None, max_examples=25)
@given(seed=seeds)
def test_a_child_that_cannot_be_built_is_no_child(seed):
    sick = SearchSpace.from_text(MERGED.replace("ORDERS", "[atrous, cross]"), proven=True)
    a, b = sick.sample(rng(seed)), sick.sample(rng(seed + 1))
    for point in (a, b, sick.mutate(a, rng(seed)), sick.crossover(a, b, rng(seed))):
        sick.build(point)


@pytest.mark.parametrize(
    "choice",
    [
        "{options: [mamba, linear], sets: blocks.q|s.mixer.init}",
        "{options: [0.0, 0.2], sets: drop_path_rate}",
        "{options: [224, 256], sets: image_size}",
        "{options: {small: {stages.0.width: 32, stages.1.width: 64}, "
        "large: {stages.0.width: 64, stages.1.width: 128}}}",
        "{options: {a: cross, b: {kind: window, routes: [v, v_flip, h, h_flip]}}, "
        "sets: blocks.s.mixer.order}",
    ],
)
def test_choices_without_effect_are_refused(choice):
    with pytest.raises(SpaceError, match="are the same function wherever they were tried"):
        SearchSpace.from_text(with_choice(choice))


def test_choices_of_a_block_exist_only_where_a_pattern_places_it():
    forgotten = SearchSpace.from_text(TINY.replace("    when: {mixer: {contains: q}}\n", ""))
    assert forgotten.size == space("tiny").size
    assert [row["when"] for row in forgotten.explain()] == ["", "", "mixer contains q"]


@pytest.mark.parametrize("name", list_spaces())
def test_every_shipped_choice_is_told_to_exist_once(name):
    """Conditions that the letters imply are not said a second time."""
    for row in space(name).explain():
        assert len(row["when"].split(" and ")) == 1
