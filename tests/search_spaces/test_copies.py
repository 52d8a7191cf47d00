"""Twins, and what a block is in one stage alone: search_spaces/{copies,use}.py."""

import json
import re

import pytest
from small_spaces import rng

from backbones import load_config
from search_spaces import SearchSpace, SpaceError

BY_STAGE = """\
schema: 1
name: by_stage
base:
  blocks:
    q: {mixer: {kind: ssm, order: quadtree}}
    s: {mixer: {kind: ssm, order: cross}}
  stages:
  - {width: 32, depth: 2, pattern: q}
  - {width: 64, depth: 2, pattern: qs, downsample: conv3x3}
  - {width: 96, depth: 4, pattern: s*q, downsample: conv3x3}
choices:
  mixer: {letters: qs, max_period: 2, per: stages.*.pattern}
  levels: {options: [[2, 4], [2, 8]], per: stages.0|1.blocks.q.mixer.order.levels}
  kernel: {options: [3, 5], per: stages.*.blocks.*.mixer.conv.kernel}
  d_state: {options: [1, 2], sets: blocks.*.mixer.d_state}
"""

PAIRS = """\
schema: 1
name: pairs
base: vmamba_tiny_s1l8
twins:
  n: {of: s, but: {mixer.scan: false}}
choices:
  mixer: {letters: sn, max_period: 2, per: stages.2|3.pattern}
  shift: {options: {none: null, omni: {direction: omni}}, sets: blocks.s.mixer.shift}
  blocks: {options: [odd, all], sets: blocks.s.mixer.shift.blocks, when: {shift: omni}}
  d_state: {options: [1, 16], sets: blocks.s.mixer.d_state}
  ffn: {options: {none: null, 4: {ratio: 4.0}}, sets: blocks.s.ffn}
  kernel: {options: [3, 5], per: stages.2|3.blocks.s.mixer.conv.kernel}
fit: {kind: width}
"""


def mistake(old, new, text=PAIRS):
    assert old in text
    with pytest.raises(SpaceError) as caught:
        SearchSpace.from_text(text.replace(old, new, 1), "mine.yaml")
    return str(caught.value)


def placed(config):
    return [[config.blocks[x] for x in stage.letters] for stage in config.stages]


def test_a_field_of_a_block_may_vary_by_stage():
    space = SearchSpace.from_text(BY_STAGE)
    assert sorted(n for n in space.choices if n[:5] in ("kerne", "level")) == [
        *(f"kernel_{n}" for n in range(1, 7)), "levels_1", "levels_2",
    ]  # fmt: skip
    point = {
        "mixer_1": "q", "mixer_2": "sq", "mixer_3": "q", "levels_1": [2, 8], "levels_2": [2, 4],
        "kernel_1": 5, "kernel_3": 3, "kernel_4": 5, "kernel_5": 3, "d_state": 2,
    }  # fmt: skip
    blocks = placed(space.build(point))
    assert [[b.mixer.order.kind for b in stage] for stage in blocks] == [
        ["quadtree"] * 2, ["cross", "quadtree"], ["quadtree"] * 4,
    ]  # fmt: skip
    kernels = [[b.mixer.conv.kernel for b in stage] for stage in blocks]
    assert kernels == [[5, 5], [5, 3], [3, 3, 3, 3]]
    assert [blocks[i][-1].mixer.order.levels for i in range(3)] == [(2, 8), (2, 4), (2, 4)]
    assert {b.mixer.d_state for stage in blocks for b in stage} == {2}


def test_a_field_exists_where_its_stage_places_its_block():
    space = SearchSpace.from_text(BY_STAGE)
    for seed in range(40):
        point = space.sample(rng(seed))
        assert ("levels_1" in point) == ("q" in point["mixer_1"])
        assert ("kernel_4" in point) == ("s" in point["mixer_2"])
        assert (
            space.build(point).fingerprint()
            == space.build(space.choices_of(space.build(point))).fingerprint()
        )


def test_the_base_is_the_one_that_is_written():
    base = SearchSpace.from_text(BY_STAGE).base
    text = BY_STAGE.replace("base:", "schema: 1").split("choices")[0]
    written = re.sub("\n  ", "\n", text.split("name: by_stage\n")[1])
    from backbones.config import BackboneConfig

    assert base.fingerprint() == BackboneConfig.from_yaml(written).fingerprint()


def test_letters_of_a_stage_are_another_way_to_write_blocks_of_its_own():
    """quadtree.yaml as it was before, with a block a, b, c, d for each stage."""
    own = """\
schema: 1
name: by_stage
base:
  blocks:
    a: &q {mixer: {kind: ssm, order: quadtree}}
    b: *q
    q: *q
    s: {mixer: {kind: ssm, order: cross}}
  stages:
  - {width: 32, depth: 2, pattern: a}
  - {width: 64, depth: 2, pattern: bs, downsample: conv3x3}
  - {width: 96, depth: 4, pattern: s*q, downsample: conv3x3}
choices:
  mixer_1: {letters: {q: a, s: s}, max_period: 2, sets: stages.0.pattern}
  mixer_2: {letters: {q: b, s: s}, max_period: 2, sets: stages.1.pattern}
  mixer_3: {letters: qs, max_period: 2, sets: stages.2.pattern}
  levels: {options: [[2, 4], [2, 8]], per: blocks.a|b.mixer.order.levels}
  d_state: {options: [1, 2], sets: blocks.*.mixer.d_state}
"""
    new = "\n".join(line for line in BY_STAGE.splitlines() if "kernel" not in line)
    first, second = SearchSpace.from_text(own), SearchSpace.from_text(new)
    assert first.size == second.size > 100
    for seed in range(20):
        point = first.sample(rng(seed))
        assert first.build(point).fingerprint() == second.build(point).fingerprint()


def test_a_twin_is_its_block_but_for_what_is_said():
    space = SearchSpace.from_text(PAIRS)
    seen = set()
    for seed in range(30):
        point = space.sample(rng(seed))
        config = space.build(point)
        for stage in placed(config)[2:]:
            for block in stage:
                assert (block.ffn is None) == (point["ffn"] == "none")
            assert len({block.mixer.conv.kernel for block in stage}) == 1
            apart = {"scan": True, "d_state": 1, "shift": None}
            assert len({str(block.mixer.model_copy(update=apart)) for block in stage}) == 1
            seen |= {(block.mixer.scan, block.mixer.d_state) for block in stage}
        found = space.choices_of(config)
        assert space.build(found).fingerprint() == config.fingerprint()
    assert seen == {(True, 1), (True, 16), (False, 1)}


def test_what_has_no_effect_in_a_twin_leaves_it_alone():
    """Where only twins stand, there is nothing to choose of a scan."""
    text = PAIRS.replace("per: stages.2|3.pattern", "sets: stages.*.pattern")
    point = {"mixer": "n", "ffn": "none", "kernel_3": 5, "kernel_4": 3}
    SearchSpace.from_text(text).check(point)
    shift = text[text.index("  shift:") : text.index("  d_state:")]
    space = SearchSpace.from_text(text.replace(shift, ""))
    assert space.size == len({space.build(p).fingerprint() for p in space.solver.points()})


def test_a_twin_may_be_another_mixer_in_the_same_block():
    text = PAIRS[: PAIRS.index("  shift:")].replace("mixer.scan: false", "mixer: attention")
    config = SearchSpace.from_text(f"{text}fit: {{kind: width, step: 8}}\n").build(
        {"mixer_3": "n", "mixer_4": "s"}
    )
    block = config.blocks[config.stages[2].pattern[0]]
    assert (block.mixer.kind, block.ffn.ratio) == ("attention", 4.0)


def test_anchored_patterns_put_blocks_at_an_end():
    text = PAIRS.replace("max_period: 2, per: stages.2|3.pattern",
                         "patterns: [s, s*n, s*n3, n2s*], sets: stages.2.pattern")  # fmt: skip
    text = "\n".join(line for line in text.splitlines() if "kernel" not in line)
    space = SearchSpace.from_text(text)
    point = {"shift": "none", "d_state": 1, "ffn": "none"}
    words = [
        "".join("n"[b.mixer.scan :] or "s" for b in placed(space.build({**point, "mixer": m}))[2])
        for m in space.choices["mixer"].options
    ]
    assert words == ["s" * 8, "s" * 7 + "n", "sssssnnn", "nnssssss"]
    drawn = [space.sample(rng(seed))["mixer"] for seed in range(200)]
    assert all(30 < drawn.count(m) < 70 for m in space.choices["mixer"].options)


def test_a_stored_space_with_twins_and_a_preset_loads_by_itself():
    for text in (PAIRS, BY_STAGE):
        space = SearchSpace.from_text(text)
        again = SearchSpace.from_text(space.source_text)
        assert again.fingerprint == space.fingerprint
        assert space.diff(again) is None


def test_twins_tell_spaces_apart():
    free = PAIRS.replace("  n: {of: s, but: {mixer.scan: false}}", "  n: {of: s, but: {ffn: null}}")
    assert "base.blocks.n" in SearchSpace.from_text(PAIRS).diff(SearchSpace.from_text(free))


MISTAKES = [
    ("n: {of: s", "n: {fo: s", "5: unknown key 'twins.n.fo'; did you mean 'of'? (+1 more)"),
    ("n: {of: s", "nn: {of: s",
     "5: twins.nn: String should match pattern '^[a-zA-Z]$' (found 'nn')"),
    ("n: {of: s", "n: {of: x", "5: twins.n.of: 'x' is not under base.blocks; declared: s"),
    ("n: {of: s", "s: {of: s", "5: twins.s: s is a block already; choose another letter"),
    (", but: {mixer.scan: false}", "", "5: twins.n.but: Field required"),
    ("{mixer.scan: false}", "{}",
     "5: twins.n.but: Dictionary should have at least 1 item after validation, not 0"),
    ("mixer.scan: false", "mixer.scann: false",
     "5: twins.n.but.mixer.scann: path 'mixer.scann' does not exist: mixer has no 'scann'; did you "
     "mean 'scan'?"),
    ("mixer.scan: false", "mixer.scan: maybe",
     "5: twins.n.but: mixer.scan: Input should be a valid boolean, unable to interpret input "
     "(found 'maybe')"),
    ("mixer.scan: false", "mixer: attentoin",
     "5: twins.n.but: mixer: no mixer 'attentoin'; did you mean 'attention'?"),
    ("mixer.scan: false", "mixer.scan: true", "5: twins.n.but: n is s itself; change a value"),
    ("sets: blocks.s.ffn", "sets: blocks.s.mixer",
     "11: choices.ffn.sets: blocks.s.mixer holds mixer.scan, in which the twin n differs from s; "
     "name the fields beside it"),
    ("stages.2|3.blocks.s", "stages.2|3.block.s",
     "12: choices.kernel.per: path 'stages.2|3.block.s.mixer.conv.kernel' does not exist: "
     "stages.2|3 has no 'block'; did you mean 'blocks'?"),
    ("stages.2|3.blocks.s", "stages.2|3.blocks.z",
     "12: choices.kernel.per: path 'stages.2|3.blocks.z.mixer.conv.kernel' does not exist: "
     "stages.2|3.blocks has no 'z'; it holds s, n"),
    ("stages.2|3.blocks.s.mixer.conv.kernel", "stages.2|3.blocks",
     "12: choices.kernel_3.sets: stages.2.blocks is more than one field; name what varies in it, "
     "e.g. blocks.LETTER.mixer"),
    ("options: [3, 5], per: stages.2|3", "options: [3, 4], per: stages.2|3",
     "12: choices.kernel_3: 4 does not fit: stages.2.blocks.n.mixer.conv: kernel 4 must be odd to "
     "keep the map's size; use 5 (+1 more)"),
    ("fit:", "  again: {options: [3, 5], sets: stages.2.blocks.s.mixer.conv.kernel}\nfit:",
     "13: choices.again.sets: stages.2.blocks.s.mixer.conv.kernel is already set by kernel_3; keep "
     "one of the two, or give them conditions that exclude each other"),
    ("max_period: 2", "patterns: [s, s*n*]",
     "7: choices.mixer_3.patterns.1: pattern 's*n*' must be letters to be tiled (qs), each with a "
     "count or not (s2g), of which one may have a star: it fills the depth (s*g4)"),
    ("max_period: 2", "patterns: [s, s*x2]",
     "7: choices.mixer_3.patterns.1: 's*x2' uses 'x'; letters: s, n"),
    ("max_period: 2", "patterns: [s, s*n, s*n1]",
     "7: choices.mixer_3.patterns.2: 's*n1' spells what a shorter one spells, or has letters "
     "beyond every depth; remove it"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES)
def test_mistake_is_told_with_its_line_and_remedy(old, new, message):
    assert mistake(old, new) == f"mine.yaml:{message}"


def test_blocks_by_stage_may_need_more_letters_than_there_are():
    config = load_config("vmamba_tiny_s1l8").to_dict()
    config["blocks"] = {x: config["blocks"]["s"] for x in "abcdefghijklmnopqrs"}
    config["name"] = None
    text = PAIRS.replace("base: vmamba_tiny_s1l8", f"base: {json.dumps(config)}")
    text = text.replace("  n: {of", "  N: {of").replace("letters: sn", "letters: sN")
    told = mistake("per: stages.2|3.blocks.s", "per: stages.*.blocks.*", text)
    assert "blocks by stage need more letters than there are (52)" in told
