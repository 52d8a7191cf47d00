import pytest

from search_spaces import SpaceError
from search_spaces.paths import expand, within, write

DATA = {
    "blocks": {"q": {"ffn": None, "mixer": {"d_state": 1}}, "s": {"mixer": {"d_state": 2}}},
    "stages": [{"depth": 2}, {"depth": 3}],
}


def test_expand_follows_keys_and_positions():
    assert expand("stages.1.depth", DATA) == [("stages", 1, "depth")]


def test_expand_lists_alternatives_and_stars():
    both = [("blocks", "q", "mixer", "d_state"), ("blocks", "s", "mixer", "d_state")]
    assert expand("blocks.q|s.mixer.d_state", DATA) == both
    assert expand("blocks.*.mixer.d_state", DATA) == both
    assert expand("stages.*.depth", DATA) == [("stages", 0, "depth"), ("stages", 1, "depth")]


def test_expand_keeps_what_lies_below_null():
    assert expand("blocks.q.ffn.ratio", DATA) == [("blocks", "q", "ffn", "ratio")]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("stage.0.depth", "there is no 'stage'; did you mean 'stages'?"),
        ("stages.0.dept", "stages.0 has no 'dept'; did you mean 'depth'?"),
        ("stages.7.depth", "stages has no '7'; it holds 0, 1"),
        ("blocks.q|z.mixer", "blocks has no 'z'; it holds q, s"),
        ("stages.0.depth.x", "stages.0.depth is the value 2 and holds no 'x'"),
    ],
)
def test_expand_refuses_paths_that_do_not_exist(path, reason):
    with pytest.raises(SpaceError) as caught:
        expand(path, DATA)
    assert str(caught.value) == f"path {path!r} does not exist: {reason}"


def test_write_changes_one_place():
    data = {"stages": [{"depth": 2}, {"depth": 3}]}
    write(data, ("stages", 1, "depth"), 9)
    assert data == {"stages": [{"depth": 2}, {"depth": 9}]}


def test_within_compares_whole_parts():
    assert within(("a", "b"), ("a",))
    assert within(("a",), ("a",))
    assert not within(("ab",), ("a",))
