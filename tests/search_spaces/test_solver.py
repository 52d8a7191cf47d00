"""Statements and exact counting: search_spaces/{statements,conditions,solver}.py."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.choices import Choice
from search_spaces.conditions import Reader
from search_spaces.solver import Solver, holds
from search_spaces.statements import ABSENT, Spelling, truth

NAMES = ("a", "b", "c", "d")
VALUES = (1, 2, 3)


def reader():
    choices = {
        name: Choice(name=name, kind="int", form="range", options=VALUES, settings=VALUES,
                     sets=("x",), low=1, high=3)
        for name in NAMES
    }  # fmt: skip

    def fail(loc, message):
        raise AssertionError(message)

    return Reader(choices, fail)


def say(raw):
    return reader().read(raw, ())


value = st.sampled_from(VALUES)
atoms = st.one_of(
    st.builds(lambda n, v: {n: v}, st.sampled_from(NAMES), value),
    st.builds(lambda n, v: {n: {"not": v}}, st.sampled_from(NAMES), value),
    st.builds(lambda n, v: {n: {"in": v}}, st.sampled_from(NAMES), st.lists(value, min_size=1)),
    st.builds(lambda n, w, v: {n: {w: v}}, st.sampled_from(NAMES),
              st.sampled_from(("at_least", "at_most")), value),
    st.builds(lambda n, w, m: {n[0]: {w: n[1]}}, st.permutations(NAMES),
              st.sampled_from(("at_least", "at_most")), st.none()),
    st.builds(lambda n, w, v: {"sum": n, w: v}, st.lists(st.sampled_from(NAMES), min_size=1),
              st.sampled_from(("at_least", "at_most", "is")), st.integers(1, 9)),
)  # fmt: skip
statements = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.builds(lambda parts: {"any": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: {"all": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part: {"not": part}, inner),
        st.builds(lambda a, b: {"if": a, "then": b}, inner, inner),
    ),
    max_leaves=5,
)


def plain(raw, point):
    """Return what a raw statement says of a point, read by another hand: None for nothing."""
    said = []
    if "sum" in raw:
        word = next(w for w in ("at_least", "at_most", "is") if w in raw)
        values = [point.get(n) for n in raw["sum"]]
        said.append(None if None in values else compare(sum(values), word, raw[word]))
    if "if" in raw:
        said.append(either([negated(plain(raw["if"], point)), plain(raw["then"], point)]))
    for key, operand in raw.items():
        if key in ("any", "all"):
            parts = [plain(r, point) for r in operand]
            said.append(either(parts) if key == "any" else both(parts))
        elif key == "not":
            said.append(negated(plain(operand, point)))
        elif key in NAMES:
            tests = operand if isinstance(operand, dict) else {"is": operand}
            for word, wanted in tests.items():
                have = point.get(key)
                other = point.get(wanted) if isinstance(wanted, str) else wanted
                said.append(None if have is None or other is None else compare(have, word, other))
    return both(said)


def compare(have, word, wanted):
    return {
        "is": lambda: have == wanted,
        "not": lambda: have != wanted,
        "in": lambda: have in wanted,
        "at_least": lambda: have >= wanted,
        "at_most": lambda: have <= wanted,
    }[word]()


def either(parts):
    return True if True in parts else (None if None in parts else False)


def both(parts):
    return False if False in parts else (None if None in parts else True)


def negated(part):
    return None if part is None else not part


def brute(whens, rules):
    found = []
    for values in product((None, *VALUES), repeat=len(NAMES)):
        point = {n: v for n, v in zip(NAMES, values) if v is not None}
        exists = all((plain(w, point) is True) == (n in point) for n, w in whens.items())
        if exists and all(n in point for n in NAMES if n not in whens):
            if all(plain(rule, point) is not False for rule in rules):
                found.append(point)
    return found


@settings(deadline=None, max_examples=150)
@given(raw=statements, values=st.lists(st.one_of(st.none(), value), min_size=4, max_size=4))
def test_truth_is_what_the_statement_says(raw, values):
    point = {n: v for n, v in zip(NAMES, values) if v is not None}
    assert truth(say(raw), point) is plain(raw, point)


@settings(deadline=None, max_examples=120)
@given(
    rules=st.lists(statements, max_size=3),
    when_c=st.sampled_from(
        [{"a": 1}, {"any": [{"a": 2}, {"b": {"at_least": 2}}]}, {"not": {"b": 3}}]
    ),
    when_d=st.sampled_from([{"c": 1}, {"not": {"c": 2}}, {"a": {"at_most": "b"}}]),
)  # fmt: skip
def test_count_and_points_equal_brute_force(rules, when_c, when_d):
    whens = {"c": when_c, "d": when_d}
    solver = Solver(
        dict.fromkeys(NAMES, VALUES), {n: say(w) for n, w in whens.items()}, [say(r) for r in rules]
    )
    expected = brute(whens, rules)
    assert solver.count() == len(expected)
    assert sorted(solver.points(), key=repr) == sorted(expected, key=repr)
    assert solver.feasible() == bool(expected)
    point = solver.walk(lambda _, allowed: allowed[-1])
    assert point in expected if expected else point is None


def test_required_choices_exist_in_every_point():
    solver = Solver(dict.fromkeys(NAMES, VALUES), {"d": say({"a": 1})}, [], required={"d"})
    assert solver.count() == 27
    assert all(p["a"] == 1 and "d" in p for p in solver.points())
    assert not Solver({"d": VALUES}, {"d": False}, [], required={"d"}).feasible()


def test_count_of_thirty_independent_choices_is_a_product():
    assert Solver({f"c{i}": range(10) for i in range(30)}, {}, []).count() == 10**30


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ({"a": 1}, "a is 1"),
        ({"a": {"in": [1, 2, 3]}}, "a is 1, 2 or 3"),
        ({"a": {"not": 2}}, "a is not 2"),
        ({"a": {"at_least": "b"}}, "a at least b"),
        ({"sum": ["a", "b"], "at_most": 4}, "a + b at most 4"),
        ({"any": [{"a": 1}, {"b": 1}]}, "a or b is 1"),
        ({"any": [{"a": 1}, {"b": 2}]}, "a is 1 or b is 2"),
        ({"a": 1, "b": 2}, "a is 1 and b is 2"),
        ({"if": {"a": 1}, "then": {"b": 2}}, "b is 2 if a is 1"),
        ({"not": {"a": 1}}, "not (a is 1)"),
    ],
)
def test_statements_read_as_text(raw, text):
    assert str(say(raw)) == text


def test_spelling_is_the_same_whatever_is_known_first():
    table = {1: frozenset("qs"), 2: frozenset(("q", "s", "qs"))}
    rule = Spelling("p", (("d", 1),), table)
    for depth, pattern in product((1, 2), ("q", "qs")):
        one = rule.reduce("d", depth).reduce("p", pattern)
        other = rule.reduce("p", pattern).reduce("d", depth)
        assert one is other is (pattern in table[depth])
    assert rule.reduce("p", ABSENT) is None
    assert rule.reduce("d", ABSENT).reduce("p", "qs") is False
    assert holds(rule, {"p": "qs", "d": 2})
