"""What a mistake in a space file is told: search_spaces/{language,loader,conditions,proof}.py."""

import pytest
from small_spaces import SHIFTED, TINY, rng

from search_spaces import SearchSpace, SpaceError

DEPTH = "depth: {range: [1, 4], sets: stages.0.depth}"
WHEN = "{mixer: {contains: q}}"
LEVELS = "options: [[2, 4], [2, 8]]"


def mistake(old, new, text=TINY):
    assert old in text
    with pytest.raises(SpaceError) as caught:
        SearchSpace.from_text(text.replace(old, new, 1), "mine.yaml")
    return str(caught.value)


SHAPE = [
    ("range:", "rnage:", "12: unknown key 'choices.depth.rnage'; did you mean 'range'?"),
    ("fit: {kind: width}", "fit: {kind: width, stp: 8}",
     "21: unknown key 'fit.stp'; did you mean 'step'?"),
    ("schema: 1", "schema: 2",
     "1: schema: schema 2 is unknown to this version; write schema: 1 (found 2)"),
    ("schema: 1\n", "", "1: schema: Field required"),
    ("name: tiny", "name: Tiny",
     "2: name: String should match pattern '^[a-z][a-z0-9_]*$' (found 'Tiny')"),
    ("kind: width", "kind: depth", "21: fit.kind: Input should be 'width' (found 'depth')"),
    ("choices:", "choices: [",
     "13: not valid YAML (expected ',' or ']', but got '<scalar>'); fix the syntax there"),
    ("  depth: {", "  mixer: {", "13: key 'mixer' is written twice; keep one of them"),
    ("range: [1, 4]", "range: [1, four]",
     "12: choices.depth.range.1: Input should be a valid number, unable to parse string as a "
     "number (found 'four')"),
    ("range: [1, 4]", "range: [4, 1]", "12: choices.depth: range [4, 1] is empty; write [1, 4]"),
    ("range: [1, 4]", "range: [1, 4], step: 2",
     "12: choices.depth: range [1, 4] does not end on a step of 2; write [1, 3]"),
    ("range: [1, 4]", "range: [0.5, 1.6], step: 0.25",
     "12: choices.depth: range [0.5, 1.6] does not end on a step of 0.25; write [0.5, 1.5]"),
    ("range: [1, 4]", "range: [0.5, 1.5], step: 0.5",
     "12: choices.depth: a depth is an integer of 1 or more"),
    ("range: [1, 4]", "options: [1, 4], step: 2",
     "12: choices.depth: step belongs to range; remove it"),
    ("range: [1, 4]", "range: [1, 4], options: [1]",
     "12: choices.depth: a choice has one of options, range, of and letters; found options and "
     "range"),
    ("range: [1, 4], ", "",
     "12: choices.depth: a choice needs one of options: [...], range: [low, high], of: [...] and "
     "letters: ..."),
    ("range: [1, 4]", "range: [1, 4], max_period: 2",
     "12: choices.depth: max_period and patterns belong to letters; add letters: ..."),
    (LEVELS, "options: []",
     "18: choices.levels.options: options is a list of values or a mapping of label: value, not "
     "empty (found [])"),
    (LEVELS, "options: [{a: 1}]",
     "18: choices.levels.options.0: a mapping needs a label; write options: {LABEL: {...}}"),
    (LEVELS, "options: [[2, 4], [2, 8], [2, 4]]",
     "18: choices.levels.options.2: [2, 4] and [2, 4] are one option; keep one"),
    (LEVELS, "options: [[2, 4], '[2,4]']",
     "18: choices.levels.options.1: [2,4] and [2, 4] are one option; keep one"),
    (LEVELS, "of: [2, 4, 8]",
     "17: choices.levels: of and choose go together: of: [a, b, c], choose: 2"),
    (LEVELS, "of: [2, 4, 8]\n    choose: 4",
     "17: choices.levels: choose [4, 4] must be a number, or [fewest, most], of at most 3 values"),
    (LEVELS, "of: [2, 4, 2]\n    choose: 2",
     "18: choices.levels.of: [2, 4, 2] names a value twice; keep one"),
    (LEVELS, f"of: {list(range(2, 30))}\n    choose: [3, 9]",
     "19: choices.levels.choose: there are more than 2000 subsets; choose fewer, or of fewer"),
    ("    sets: blocks.q.mixer.order.levels\n", "",
     "17: choices.levels: sets is missing: name the config path, or make each option a mapping of "
     "label: {path: value}"),
    (f"{LEVELS}\n    sets: blocks.q.mixer.order.levels", "options: {a: {x: 1}, b: {y: 2}}",
     "17: choices.levels: options without sets must all name the same paths"),
]  # fmt: skip

MEANING = [
    ("  depth: {", "  sum: {", "12: choices.sum: is a word of the language; choose another name"),
    ("sets: stages.0.depth", "sets: stages.0.dept",
     "12: choices.depth.sets: path 'stages.0.dept' does not exist: stages.0 has no 'dept'; did you "
     "mean 'depth'?"),
    ("sets: stages.0.depth", "sets: blocks.q.ffn.ratio",
     "12: choices.depth.sets: blocks.q.ffn is null in the base, so blocks.q.ffn.ratio does not "
     "exist; give it a value there"),
    ("fit:", "  again: {range: [1, 2], sets: stages.0.depth}\nfit:",
     "21: choices.again.sets: stages.0.depth is already set by depth; keep one of the two, or give "
     "them conditions that exclude each other"),
    ("range: [1, 4]", "range: [0, 4]",
     "12: choices.depth: a depth is an integer of 1 or more"),
    ("letters: qsg", "letters: qsx",
     "14: choices.mixer.letters: letter 'x' names block 'x', which is not under base.blocks; "
     "declared: q, s, g"),
    ("sets: stages.0.depth", "sets: stages.0.depth, per: stages.*.depth",
     "12: choices.depth: per takes the place of sets: keep one of the two"),
    ("sets: stages.0.depth", "per: stages.*.dept",
     "12: choices.depth.per: path 'stages.*.dept' does not exist: stages.* has no 'dept'; did you "
     "mean 'depth'?"),
    ("sets: stages.0.depth}", "per: stages.*.depth}\n  depth_2: {range: [1, 2], sets: num_classes}",
     "12: choices.depth: makes a choice depth_2, which is written as well"),
    ("range: [1, 4], sets: stages.0.depth", "range: [0, 4], per: stages.*.depth",
     "12: choices.depth_1: a depth is an integer of 1 or more"),
    ("sets: stages.0.depth", "sets: stages.1",
     "12: choices.depth.sets: stages.1 is more than one field; name what varies in it, e.g. "
     "stages.N.depth"),
    ("sets: stages.0.depth", "sets: blocks",
     "12: choices.depth.sets: blocks is more than one field; name what varies in it, e.g. "
     "blocks.LETTER.mixer"),
    ("  depth: {", "  off: {",
     "12: choices: off is false to YAML, and no name; write it in quotes: 'off'"),
    (LEVELS, "options: {off: [2, 4], 'on': [2, 8]}",
     "18: choices.levels.options: off is false to YAML, and no name; write it in quotes: 'off'"),
    (WHEN, "{yes: 1}",
     "20: choices.levels.when: yes is true to YAML, and no name; write it in quotes: 'yes'"),
    ("    max_period: 2\n", "",
     "13: choices.mixer: letters needs one of max_period: N and patterns: [...]"),
    ("max_period: 2", "max_period: 8",
     "15: choices.mixer.max_period: 3 letters in patterns of 8 are more than 2000 options; lower "
     "max_period or list patterns"),
    ("max_period: 2", "patterns: [q, qx]",
     "15: choices.mixer.patterns.1: 'qx' uses 'x'; letters: q, s, g"),
    ("max_period: 2", "patterns: [q, qq]",
     "15: choices.mixer.patterns.1: 'qq' spells what a shorter one spells, or has letters beyond "
     "every depth; remove it"),
    ("max_period: 2\n    sets: stages.0.pattern", "max_period: 2\n    sets: stages.0.depth",
     "16: choices.mixer.sets: stages.0.depth is already set by depth; keep one of the two, or give "
     "them conditions that exclude each other"),
    ("sets: stages.0.pattern", "sets: name",
     "16: choices.mixer.sets: letters sets the pattern of stages: stages.N.pattern"),
    (LEVELS, "options: [[2, 4], [2, 3]]",
     "17: choices.levels: [2, 3] does not fit: blocks.q.mixer.order: levels [2, 3]: 3 "
     "must be a larger multiple of 2, e.g. 4"),
    (LEVELS, "options: [[2, 4], wide]",
     "17: choices.levels: wide does not fit: blocks.q.mixer.order.levels: Input "
     "should be a valid tuple (found 'wide')"),
    ("pattern: q}", "pattern: z}",
     "3: base: stages.0.pattern 'z' uses 'z', which is not under blocks; declared: g, q, s"),
    ("order: cross", "order: cros",
     "6: base.blocks.s.mixer.order: no scan order 'cros'; did you mean 'cross'?"),
    (TINY[TINY.index("base:"):TINY.index("choices:")], "base: vmamba_tiny_s1l\n",
     "3: base: 'vmamba_tiny_s1l' is neither a preset nor a file; did you mean "
     "'vmamba_tiny_s1l8'?"),
    ("fit:", "points: {vmamba_tiny_s1: }\nfit:",
     "21: points.vmamba_tiny_s1: is no preset; did you mean 'vmamba_tiny_s1l8'?"),
    ("fit:", "points: {vmamba_tiny_s1l8: {blocks.q: 1}}\nfit:",
     "21: points.vmamba_tiny_s1l8: path 'blocks.q' does not exist: blocks has no 'q'; it holds s"),
    ("fit:", "points: {vmamba_tiny_s1l8: {blocks.s.mixer.d_state: 99}}\nfit:",
     "21: points.vmamba_tiny_s1l8: blocks.s.mixer.d_state: Input should be less than or equal "
     "to 64 (found 99)"),
]  # fmt: skip

STATEMENTS = [
    ("{mixr: {contains: q}}", ".mixr: mixr is no choice of this space; did you mean 'mixer'?"),
    ("{xyz: 1}", ".xyz: xyz is no choice of this space; choices: depth, mixer, levels"),
    ("{mixer: {contain: q}}", ".mixer.contain: unknown word contain; did you mean 'contains'?"),
    ("{mixer: {zz: q}}",
     ".mixer.zz: unknown word zz; use is, in, not, contains, at_least, at_most"),
    ("{mixer: {contains: z}}",
     ".mixer.contains: no option of mixer contains z; they hold q, s, g"),
    ("{depth: {contains: 1}}",
     ".depth.contains: depth has neither letters nor lists; use is or in"),
    ("{mixer: qqs}", '.mixer: qqs is not an option; did you mean "qs"?'),
    ("{depth: {is: 7}}", ".depth.is: 7 is not an integer from 1 to 4; nearest is 4"),
    ("{depth: {not: two}}", ".depth.not: two is not an integer from 1 to 4; nearest is 1"),
    ("{depth: {in: 2}}", ".depth.in: in takes a list of values (found 2)"),
    ("{any: {mixer: q}}", '.any: any takes a list of statements (found {"mixer": "q"})'),
    ("{all: []}", ".all: all takes a list of statements (found [])"),
    ("{not: 3}", ".not: a statement is a mapping such as {depth: 2} (found 3)"),
    ("{if: {mixer: q}}", ": if and then go together; write {if: {...}, then: {...}}"),
    ("{sum: [depth]}", ": a sum needs one of is, at_least, at_most"),
    ("{sum: depth, is: 2}", ".sum: sum takes a list of choices (found depth)"),
    ("{mixer: {at_least: 2}}",
     '.mixer.at_least: mixer cannot be compared: its option "q" is no number'),
    ("{depth: {at_least: true}}",
     ".depth.at_least: at_least takes a number or a choice (found true)"),
    ("{depth: {at_least: depth}}",
     ".depth.at_least: depth at least depth compares a choice with itself; remove it"),
    ("{depth: {at_least: 9}}",
     ": 'depth at least 9' is never true; correct it or remove the choice"),
    ("{mixer: s, depth: 1, all: [{mixer: g}]}",
     ": 'mixer is s and depth is 1 and mixer is g' is never true; correct it or remove the choice"),
    ("{levels: {contains: 8}}",
     ": choices wait for each other: levels needs levels; remove one of the conditions"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), SHAPE + MEANING)
def test_mistake_is_told_with_its_line_and_remedy(old, new, message):
    assert mistake(old, new) == f"mine.yaml:{message}"


@pytest.mark.parametrize(("when", "message"), STATEMENTS)
def test_mistake_in_a_condition_is_told_with_its_line_and_remedy(when, message):
    assert mistake(WHEN, when) == f"mine.yaml:20: choices.levels.when{message}"


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        ("{depht: 2}", "constraints.0.depht: depht is no choice of this space; did you mean "
                       "'depth'?"),
        ("{depth: {at_least: 5}}", "constraints.0: no design satisfies 'depth at least 5' with "
                                   "what stands before it; relax one of them"),
    ],
)  # fmt: skip
def test_mistake_in_a_constraint_is_told_with_its_line_and_remedy(constraint, message):
    assert mistake("fit:", f"constraints:\n- {constraint}\nfit:") == f"mine.yaml:22: {message}"


def test_options_that_constraints_exclude_are_mistakes():
    excluded = mistake("fit:", "constraints: [{depth: {at_most: 2}}]\nfit:")
    assert excluded == (
        "mine.yaml:12: choices.depth: 3 can never be chosen: the conditions and constraints "
        "exclude it; remove it or relax them"
    )
    excluded = mistake("fit:", "constraints: [{levels: [2, 4]}]\nfit:")
    assert excluded.startswith("mine.yaml:18: choices.levels.options.1: [2, 8] can never be chosen")


def test_conditions_that_wait_for_each_other_are_a_mistake():
    told = mistake(DEPTH, DEPTH.replace("}", ", when: {levels: {contains: 8}}}"))
    assert told == (
        "mine.yaml:12: choices.depth.when: choices wait for each other: depth needs levels needs "
        "mixer needs depth; remove one of the conditions"
    )


def test_value_written_below_a_null_needs_a_condition():
    told = mistake("    when: {any: [{shift: one}, {shift: omni}]}\n", "", SHIFTED)
    assert told == (
        "mine.yaml:14: choices.blocks.sets: there is no blocks.s.mixer.shift.blocks in this "
        "design; give blocks a when that holds only where there is one"
    )


def test_missing_file_and_foreign_document_are_told(tmp_path):
    with pytest.raises(SpaceError, match="found list at the top, expected a mapping of keys"):
        SearchSpace.from_text("- a\n")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpaceError, match=r"cannot read .*bytes\.yaml"):
        SearchSpace.load(tmp_path / "bytes.yaml")


def test_choices_without_sets_write_a_value_to_each_path():
    space = SearchSpace.from_text(
        TINY.replace(
            "fit:",
            """\
  scale:
    options:
      small: {stages.1.depth: 1, blocks.g.mixer.kernel: 3}
      large: {stages.1.depth: 5, blocks.g.mixer.kernel: 9}
fit:""",
        )
    )
    built = space.build({"depth": 3, "mixer": "g", "scale": "large"})
    assert (built.stages[1].depth, built.blocks["g"].mixer.kernel) == (5, 9)
    assert space.choices_of(built) == {"depth": 3, "mixer": "g", "scale": "large"}


def test_letters_may_name_other_blocks_in_each_stage():
    text = TINY.replace("letters: qsg", "letters: {a: q, b: g}").replace(
        "contains: q", "contains: a"
    )
    space = SearchSpace.from_text(text)
    assert space.build({"depth": 2, "mixer": "ba", "levels": [2, 8]}).stages[0].pattern == "gq"


def test_subsets_are_taken_in_the_order_written():
    space = SearchSpace.from_text(TINY.replace(LEVELS, "of: [2, 4, 8]\n    choose: [2, 3]"))
    assert space.choices["levels"].options == ([2, 4], [2, 8], [4, 8], [2, 4, 8])


def test_per_makes_a_choice_for_each_match():
    each = SearchSpace.from_text(
        TINY.replace(DEPTH, "depth: {range: [1, 4], per: stages.*.depth, about: 'stage {n}'}")
    )
    assert list(each.choices) == ["depth_1", "depth_2", "mixer", "levels"]
    assert [each.choices[f"depth_{n}"].about for n in (1, 2)] == ["stage 1", "stage 2"]
    assert each.choices["depth_2"].sets == ("stages.1.depth",)
    built = each.build({"depth_1": 3, "depth_2": 4, "mixer": "s"})
    assert [stage.depth for stage in built.stages] == [3, 4]
    one = SearchSpace.from_text(TINY.replace(DEPTH, "depth: {range: [1, 4], per: stages.1.depth}"))
    assert one.choices["depth_2"].sets == ("stages.1.depth",)


def test_ranges_of_fractions_have_their_steps():
    space = SearchSpace.from_text(
        TINY.replace(
            "fit:", "  expand: {range: [1, 2.2], step: 0.4, sets: blocks.s.mixer.expand}\nfit:"
        )
    )
    expand = space.choices["expand"]
    assert expand.options == (1.0, 1.4, 1.8, 2.2)
    assert expand.kind == "categorical"
    assert expand.summary() == "1.0 to 2.2, step 0.4"
    assert expand.nearest(2.2, [1.0, 1.4]) == 1.4
    assert sum(abs(expand.neighbors(1.4, rng(s))[0] - 1.4) < 0.5 for s in range(100)) > 65
    built = space.build({"depth": 1, "mixer": "s", "expand": 1.8})
    assert built.blocks["s"].mixer.expand == 1.8
    assert space.choices_of(built)["expand"] == 1.8
