"""Patterns over depth: a short string of letters tiled over the blocks of a stage.

Many patterns spell the same word: at depth 4, "qsqq" and "qsq" are both q s q q. A space counts
and samples each word once, by its shortest spelling.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product

from backbones.language import spell


def all_patterns(letters: Sequence[str], max_period: int) -> Iterator[str]:
    """Yield every pattern of up to `max_period` letters, short ones first."""
    for period in range(1, max_period + 1):
        for word in product(letters, repeat=period):
            yield "".join(word)


def spellings(patterns: Sequence[str], depth: int) -> frozenset[str]:
    """Return the patterns that are the shortest spelling of their word at this depth.

    A pattern with a letter beyond the depth is none: the letter would stand for no block.
    """
    first: dict[str, str] = {}
    for pattern in sorted(patterns, key=len):
        word = spell(pattern, depth)
        if set(word) == set(filter(str.isalpha, pattern)):
            first.setdefault(word, pattern)
    return frozenset(first.values())


def useful(patterns: Iterable[str], depths: Iterable[int]) -> tuple[str, ...]:
    """Return those patterns that are the shortest spelling at one of the depths or more."""
    listed = tuple(patterns)
    kept: set[str] = set()
    for depth in set(depths):
        kept |= spellings(listed, depth)
    return tuple(p for p in listed if p in kept)


def edits(pattern: str, letters: Sequence[str]) -> list[str]:
    """Return the patterns one letter away: a letter replaced, inserted or removed."""
    found: dict[str, None] = {}
    for i in range(len(pattern)):
        for letter in letters:
            found[pattern[:i] + letter + pattern[i + 1 :]] = None
        if len(pattern) > 1:
            found[pattern[:i] + pattern[i + 1 :]] = None
    for i in range(len(pattern) + 1):
        for letter in letters:
            found[pattern[:i] + letter + pattern[i:]] = None
    found.pop(pattern, None)
    return list(found)


def shared_prefix(a: str, b: str) -> int:
    """Return how many blocks the two patterns fill alike before they first differ."""
    length = len(a) * len(b)
    for i, (x, y) in enumerate(zip(spell(a, length), spell(b, length))):
        if x != y:
            return i
    return length
