"""Patterns over depth: search_spaces/patterns.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbones.language import spell
from search_spaces import patterns

words = st.text("qsg", min_size=1, max_size=6)


def test_tile_repeats_the_pattern_up_to_the_depth():
    assert spell("qs", 5) == "qsqsq"
    assert spell("sssg", 2) == "ss"


@given(depth=st.integers(1, 6), period=st.integers(1, 4))
def test_spellings_spell_every_word_once(depth, period):
    listed = list(patterns.all_patterns("qsg", period))
    kept = patterns.spellings(listed, depth)
    assert sorted(spell(p, depth) for p in kept) == sorted({spell(p, depth) for p in listed})


@given(pattern=words, depth=st.integers(1, 12))
def test_spellings_use_all_their_letters(pattern, depth):
    for kept in patterns.spellings([pattern], depth):
        assert set(kept) == set(spell(kept, depth))


@pytest.mark.parametrize(
    ("depth", "kept"), [(1, {"q", "s"}), (2, {"q", "s", "qs", "sq"}), (3, {"q", "s", "qs", "sq"})]
)
def test_spellings_by_depth(depth, kept):
    assert patterns.spellings(["q", "s", "qs", "sq"], depth) == kept


def test_useful_drops_powers_of_shorter_patterns():
    assert patterns.useful(["q", "qq", "qs", "qsqs"], range(1, 9)) == ("q", "qs")


@given(pattern=words)
def test_edits_are_one_letter_away(pattern):
    near = patterns.edits(pattern, "qsg")
    assert pattern not in near
    assert all(abs(len(n) - len(pattern)) <= 1 for n in near)
    same_length = [n for n in near if len(n) == len(pattern)]
    assert all(sum(a != b for a, b in zip(n, pattern)) == 1 for n in same_length)
    assert len(near) == len(set(near))


def test_shared_prefix_counts_blocks_filled_alike():
    assert patterns.shared_prefix("sq", "s") == 1
    assert patterns.shared_prefix("qsqq", "qsq") == 4
    assert patterns.shared_prefix("q", "s") == 0
