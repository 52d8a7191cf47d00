"""What every space promises: search_spaces/{space,variation}.py."""

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_spaces import BAND, SHIFTED, SMALL, TINY, every_point, rng, seeds, space

from backbones import BackboneConfig, load_config
from search_spaces import SearchSpace, SpaceError, list_spaces
from search_spaces.choices import freeze
from search_spaces.fit import with_widths

ALL = (*SMALL, *list_spaces())
EACH = settings(deadline=None, max_examples=12)

per_space = pytest.mark.parametrize("name", ALL)


@per_space
@EACH
@given(seed=seeds)
def test_sample_lies_in_the_space_and_follows_its_seed(name, seed):
    point = space(name).sample(rng(seed))
    space(name).check(point)
    assert point == space(name).sample(rng(seed))


@per_space
@EACH
@given(seed=seeds)
def test_mutation_is_another_design_one_choice_away(name, seed):
    parent = space(name).sample(rng(seed))
    before = json.dumps(parent)
    child = space(name).mutate(parent, rng(seed + 1))
    space(name).check(child)
    assert json.dumps(parent) == before
    changed = [n for n in parent if n in child and freeze(parent[n]) != freeze(child[n])]
    assert len(changed) == 1
    designs = [space(name).build(p).fingerprint() for p in (parent, child)]
    assert designs[0] != designs[1]
    assert child == space(name).mutate(parent, rng(seed + 1))


@per_space
@EACH
@given(seed=seeds)
def test_crossover_lies_in_the_space_and_inherits(name, seed):
    a, b = (space(name).sample(rng(seed + i)) for i in range(2))
    child = space(name).crossover(a, b, rng(seed))
    space(name).check(child)
    assert space(name).crossover(a, a, rng(seed)) == a
    inherited = [n for n in child if any(freeze(p.get(n)) == freeze(child[n]) for p in (a, b))]
    assert len(inherited) >= len(child) / 2


@per_space
@EACH
@given(seed=seeds)
def test_decider_that_answers_with_a_point_returns_it(name, seed):
    point = space(name).sample(rng(seed))
    asked = []

    def decide(at, choice):
        asked.append(at)
        assert space(name).is_active(at, point)
        assert choice is space(name).choices[at]
        return choice.decode(choice.encode(point[at]))

    assert space(name).from_decider(decide) == point
    assert asked == [n for n in space(name).choices if n in point]


@per_space
@EACH
@given(seed=seeds)
def test_decider_of_static_ranges_always_lands_in_the_space(name, seed):
    draw = rng(seed)
    point = space(name).from_decider(
        lambda _, choice: choice.options[int(draw.integers(len(choice.options)))]
    )
    space(name).check(point)


@per_space
@EACH
@given(seed=seeds)
def test_points_survive_json(name, seed):
    point = space(name).sample(rng(seed))
    again = json.loads(json.dumps(point))
    assert again == point
    assert space(name).build(again) == space(name).build(point)


@per_space
@EACH
@given(seed=seeds)
def test_designs_survive_yaml_and_keep_their_fingerprint(name, seed):
    config = space(name).build(space(name).sample(rng(seed)))
    assert BackboneConfig.from_yaml(config.to_yaml()) == config
    assert BackboneConfig.from_yaml(config.to_yaml()).fingerprint() == config.fingerprint()
    used = {letter for stage in config.stages for letter in stage.letters}
    assert set(config.blocks) == used


@per_space
@settings(deadline=None, max_examples=6)
@given(seed=seeds)
def test_choices_of_recognizes_what_was_built(name, seed):
    config = space(name).build(space(name).sample(rng(seed)))
    if name not in ("shifted",):
        config = space(name).build(space(name).sample(rng(seed)), [BAND])
    found = space(name).choices_of(config)
    space(name).check(found)
    rebuilt = with_widths(space(name).build(found), [s.width for s in config.stages])
    assert rebuilt.fingerprint() == config.fingerprint()


@pytest.mark.parametrize("name", SMALL)
def test_size_counts_what_check_lets_pass(name):
    points = list(every_point(space(name)))
    assert space(name).size == len(points)
    assert space(name).size == len({json.dumps(p, sort_keys=True) for p in points})


def test_every_point_of_a_pattern_space_without_other_choices_is_another_design():
    text = TINY.split("  levels:")[0]
    patterns = SearchSpace.from_text(text)
    designs = {patterns.build(p).fingerprint() for p in every_point(patterns)}
    assert len(designs) == patterns.size == 3 + 3 * 9  # depth 1: 3 words; 2, 3, 4: 9 each


@pytest.mark.parametrize("name", SMALL)
def test_samples_reach_every_point(name):
    draw = rng(0)
    seen = {json.dumps(space(name).sample(draw), sort_keys=True) for _ in range(4000)}
    assert len(seen) == space(name).size


def test_mutations_lead_from_any_point_to_all_others():
    shifted, draw = space("shifted"), rng(0)
    point, seen = shifted.sample(draw), set()
    for _ in range(1800):
        seen.add(json.dumps(point, sort_keys=True))
        point = shifted.mutate(point, draw)
    assert len(seen) == shifted.size


def test_mutation_moves_others_where_no_choice_may_change_alone():
    depths = SHIFTED.split("  scan:")[0].replace("range: [2, 6], step: 2", "range: [2, 4]")
    tied = SearchSpace.from_text(depths + "constraints:\n- {sum: [early, late], is: 5}\n")
    assert tied.size == 3
    for seed in range(10):
        parent = tied.sample(rng(seed))
        child = tied.mutate(parent, rng(seed))
        tied.check(child)
        assert child != parent


def test_mutation_of_a_single_design_returns_it():
    one = SearchSpace.from_text(
        TINY.split("choices:")[0] + "choices:\n  depth: {options: [2], sets: stages.0.depth}\n"
    )
    assert one.mutate({"depth": 2}, rng(0)) == {"depth": 2}


def test_distributions_come_in_dependency_order():
    for name in ALL:
        order = list(space(name).distributions())
        assert order == list(space(name).choices)
        for i, later in enumerate(order):
            when = space(name)._definition.whens.get(later)
            assert when is None or isinstance(when, bool) or when.names <= set(order[:i])


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"depth": 2, "mixer": "q"}, "levels is missing; it is one of [2, 4], [2, 8]"),
        ({"depth": 2}, "mixer is missing; it is one of q, s, g, qs, qg, sq, sg, gq, gs"),
        (
            {"depth": 2, "mixer": "s", "levels": [2, 4]},
            "levels does not exist here: it needs mixer contains q; leave it out",
        ),
        ({"depht": 2}, "space tiny has no choice 'depht'; did you mean 'depth'?"),
        ({"width": 2}, "space tiny has no choice 'width'; did you mean 'depth'?"),
        ({"xyz": 2}, "space tiny has no choice 'xyz'; choices: depth, mixer, levels"),
        ({"depth": 9}, "depth: 9 is not an integer from 1 to 4; nearest is 4"),
        (
            {"depth": 1, "mixer": "sg"},
            "broken constraint: mixer is the shortest spelling at its depth, with every letter in "
            "use; change one of these choices",
        ),
    ],
)
def test_check_says_what_is_wrong(point, message):
    for ask in (space("tiny").check, space("tiny").build):
        with pytest.raises(SpaceError) as caught:
            ask(point)
        assert str(caught.value) == message


def test_check_names_the_broken_constraint():
    point = {"early": 3, "late": 6, "scan": "raster"}
    with pytest.raises(SpaceError, match=r"broken constraint: early \+ late at most 7"):
        space("shifted").check(point)


def test_unknown_choices_and_points_are_refused():
    with pytest.raises(SpaceError, match="has no choice 'mixr'; did you mean 'mixer'"):
        space("tiny").is_active("mixr", {})
    with pytest.raises(SpaceError, match="'vim_small' is no point of vmamba; points: vmamba_tiny"):
        space("vmamba").point("vim_small")
    with pytest.raises(SpaceError, match=r"depth: 7 is not an integer"):
        space("tiny").from_decider(lambda name, choice: 7)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("quadtre", "'quadtre' is neither a shipped space nor a file; did you mean 'quadtree'?"),
        ("nothing.yaml", "'nothing.yaml' is neither a shipped space nor a file; shipped: hybrid"),
    ],
)
def test_load_refuses_unknown_names(source, message):
    with pytest.raises(SpaceError) as caught:
        SearchSpace.load(source)
    assert str(caught.value).startswith(message)


def test_base_may_be_a_file_beside_the_space(tmp_path):
    base = load_config("vmamba_tiny_s1l8")
    (tmp_path / "mine.yaml").write_text(base.to_yaml())
    (tmp_path / "space.yaml").write_text(
        SHIFTED.replace("base: vmamba_tiny_s1l8", "base: mine.yaml")
    )
    loaded = SearchSpace.load(tmp_path / "space.yaml")
    assert loaded.fingerprint == space("shifted").fingerprint
    (tmp_path / "mine.yaml").unlink()
    assert SearchSpace.from_text(loaded.source_text).fingerprint == loaded.fingerprint


@per_space
def test_source_text_holds_the_whole_space(name):
    again = SearchSpace.from_text(space(name).source_text)
    assert again.fingerprint == space(name).fingerprint
    assert again.diff(space(name)) is None
    assert (again.name, again.version, again.points) == (
        space(name).name, space(name).version, space(name).points
    )  # fmt: skip


def test_fingerprint_forgets_texts_and_remembers_choices():
    commented = TINY.replace("choices:", "# which mixers\ndescription: mixers\nchoices:")
    assert SearchSpace.from_text(commented).fingerprint == space("tiny").fingerprint
    for a, b in (("[1, 4]", "[1, 5]"), ("width: 32", "width: 40"), ("contains: q", "contains: s"),
                 ("fit: {kind: width}", "fit: {kind: width, step: 16}")):  # fmt: skip
        assert SearchSpace.from_text(TINY.replace(a, b)).fingerprint != space("tiny").fingerprint


def test_diff_reads_line_by_line():
    changed = (
        TINY.replace("[1, 4]", "[1, 5]")
        .replace("name: tiny", "name: tiny\nversion: 2")
        .replace("    when: {mixer: {contains: q}}\n", "")
        .replace("fit:", "constraints:\n- {depth: {at_least: 2}}\nfit:")
        .replace("range: [1, 5]", "range: [2, 5]")
    )
    assert space("tiny").diff(SearchSpace.from_text(changed)).splitlines() == [
        "version: 1 -> 2",
        "choices.depth.options: [1, 4, 1] -> [2, 5, 1]",
        'choices.levels.when: removed (was {"mixer": {"contains": "q"}})',
        'constraints: [] -> [{"depth": {"at_least": 2}}]',
    ]


def test_explain_has_a_row_for_each_choice():
    assert space("tiny").explain() == [
        {"choice": "depth", "about": "", "sets": ["stages.0.depth"], "options": "1 to 4",
         "when": "", "count": 4},
        {"choice": "mixer", "about": "", "sets": ["stages.0.pattern"],
         "options": "q, s, g, qs, qg, sq, sg, gq, gs", "when": "", "count": 9},
        {"choice": "levels", "about": "", "sets": ["blocks.q.mixer.order.levels"],
         "options": "[2, 4], [2, 8]", "when": "mixer contains q", "count": 2},
    ]  # fmt: skip
    assert space("shifted").constraints == (
        "late at least early", "early + late at most 7", "early at most 2 if scan is snake",
    )  # fmt: skip
    json.dumps([space(name).explain() for name in ALL])


PROBE = """
import sys
import numpy
from search_spaces import Band, SearchSpace, list_spaces
print(SearchSpace.load("quadtree").fingerprint)
space = SearchSpace.load("quadtree")
point = space.mutate(space.sample(numpy.random.default_rng(5)), numpy.random.default_rng(6))
print(sorted(point.items(), key=str))
print(space.build(point, [Band("flops", 4.275e9, 4.5e9)]).fingerprint())
heavy = ("torch", "timm", "optuna", "ray", "sqlalchemy", "numba")
print([m for m in heavy if m in sys.modules])
"""


def test_nothing_depends_on_the_process_and_nothing_heavy_is_imported():
    outputs = [
        subprocess.run(
            [sys.executable, "-c", PROBE],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]  # fmt: skip
    assert outputs[0] == outputs[1]
    assert outputs[0].splitlines()[-1] == "[]"


def test_package_import_loads_nothing():
    code = "import sys, search_spaces; print([m for m in sys.modules if m in " \
           "('yaml', 'pydantic', 'numpy', 'torch')])"  # fmt: skip
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@settings(deadline=None, max_examples=20)
@given(seed=seeds, step=st.integers(1, 30))
def test_long_walks_of_mutations_stay_in_the_space(seed, step):
    draw = rng(seed)
    point = space("quadtree").sample(draw)
    for _ in range(step % 5 + 1):
        point = space("quadtree").mutate(point, draw)
        space("quadtree").check(point)


def test_samples_draw_the_period_of_a_pattern_first():
    quadtree, draws = space("quadtree"), 1500
    draw = rng(0)
    points = [quadtree.sample(draw) for _ in range(draws)]
    for name, depth, longest in (("mixer_1", "depth_1", 2), ("mixer_3", "depth_3", 4)):
        deep = [len(p[name]) for p in points if p[depth] >= longest]
        for period in range(1, longest + 1):
            share = deep.count(period) / len(deep)
            # Five standard deviations of a share of 1 / longest.
            slack = 5 * (longest * len(deep)) ** -0.5
            assert abs(share - 1 / longest) < slack, (name, period, share)


def test_width_ratios_may_be_chosen_beside_fit():
    text = TINY.replace("fit:", "  ratio: {options: [48, 64, 128], sets: stages.1.width}\nfit:")
    ratios = SearchSpace.from_text(text)
    for wide in (48, 64, 128):
        point = {"depth": 2, "mixer": "s", "ratio": wide}
        config = ratios.build(point, [BAND])
        first, second = (stage.width for stage in config.stages)
        assert second / first == pytest.approx(wide / 32, rel=0.1)
        assert ratios.choices_of(config) == point
