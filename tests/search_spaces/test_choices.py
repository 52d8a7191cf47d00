import pytest

from search_spaces import SpaceError
from search_spaces.choices import Choice, freeze

from small_spaces import rng  # isort: skip


def choice(form, options, **more):
    kind = "int" if form == "range" else "categorical"
    return Choice(
        name="c", kind=kind, form=form, options=tuple(options), settings=tuple(options),
        sets=("x",), **more,
    )  # fmt: skip


DEPTH = choice("range", range(2, 9, 2), low=2, high=8, step=2)
LEVELS = choice("options", [[2, 4], [2, 8], None, "all", True, 1])
MIXER = choice("pattern", ["q", "s", "qs", "sq", "qqs", "qss"], letters=("q", "s"))
ROUTES = choice("subset", [["h", "v"], ["h", "w2"], ["v", "w2"]])


@pytest.mark.parametrize("c", [DEPTH, LEVELS, MIXER, ROUTES])
def test_decode_inverts_encode(c):
    for option in c.options:
        stored = c.encode(option)
        assert stored is None or isinstance(stored, (bool, int, float, str))
        assert freeze(c.decode(stored)) == freeze(option)


def test_encode_writes_lists_compactly():
    assert LEVELS.encode([2, 4]) == "[2,4]"


def test_decode_returns_a_copy():
    LEVELS.decode("[2,4]").append(9)
    assert LEVELS.options[0] == [2, 4]


def test_true_is_not_one():
    assert LEVELS.index(True) == 4
    assert LEVELS.index(1) == 5
    assert 1.5 not in LEVELS


@pytest.mark.parametrize(
    ("c", "value", "message"),
    [
        (DEPTH, 9, "c: 9 is not an integer from 2 to 8 in steps of 2; nearest is 8"),
        (DEPTH, 7.6, "c: 7.6 is not an integer from 2 to 8 in steps of 2; nearest is 8"),
        (DEPTH, "4", 'c: "4" is not an integer from 2 to 8 in steps of 2; nearest is 2'),
        (MIXER, "qz", "c: \"qz\" uses the letter 'z'; letters are q, s"),
        (LEVELS, [2, 6], "c: [2, 6] is not an option; did you mean [2, 8]?"),
        (ROUTES, 7, 'c: 7 is not an option; options are ["h", "v"], ["h", "w2"], ["v", "w2"]'),
    ],
)
def test_index_refuses_what_is_no_option(c, value, message):
    with pytest.raises(SpaceError) as caught:
        c.index(value)
    assert str(caught.value) == message


def test_decode_refuses_what_was_never_stored():
    with pytest.raises(SpaceError, match=r"c: stored value '\[2,5\]' is not an option"):
        LEVELS.decode("[2,5]")


@pytest.mark.parametrize(
    ("c", "value", "allowed", "expected"),
    [
        (DEPTH, 8, [2, 4], 4),
        (DEPTH, 4, [2, 6], 2),
        (MIXER, "qss", ["s", "q", "qs"], "qs"),
        (LEVELS, None, [[2, 4], "all"], "all"),
        (LEVELS, 1, [[2, 4], "all"], [2, 4]),
        (ROUTES, ["h", "v"], [["v", "w2"]], ["v", "w2"]),
    ],
)
def test_nearest_by_kind(c, value, allowed, expected):
    assert c.nearest(value, allowed) == expected


@pytest.mark.parametrize("c", [DEPTH, LEVELS, MIXER, ROUTES])
def test_neighbors_are_all_other_options(c):
    for option in c.options:
        others = c.neighbors(option, rng(0))
        assert sorted(map(repr, others)) == sorted(
            repr(o) for o in c.options if freeze(o) != freeze(option)
        )


def test_neighbors_of_ints_mostly_start_with_a_step():
    steps = sum(abs(DEPTH.neighbors(4, rng(seed))[0] - 4) == 2 for seed in range(200))
    assert 130 < steps < 200


def test_neighbors_of_patterns_start_with_one_letter():
    first = {MIXER.neighbors("qs", rng(seed))[0] for seed in range(50)}
    assert first <= {"q", "s", "qqs", "qss"}


def test_setting_is_a_fresh_copy():
    LEVELS.setting([2, 4]).append(9)
    assert LEVELS.setting([2, 4]) == [2, 4]


@pytest.mark.parametrize(
    ("c", "text"),
    [
        (DEPTH, "2 to 8, step 2"),
        (MIXER, "q, s, qs, sq, qqs, qss"),
        (ROUTES, "2 of h, v, w2"),
        (LEVELS, "[2, 4], [2, 8], null, all, true, 1"),
    ],
)
def test_summary_by_kind(c, text):
    assert c.summary() == text
