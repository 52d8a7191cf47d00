"""Blocks of a space that follow another: twins, and what a block is in one stage alone.

A twin, under `twins`, is a block of the base in all but what is said of it, whatever choices make
of that block. `stages.0.blocks.q.mixer.kernel` is a field of block q in stage 0 alone. To the
backbone language both are blocks like any other: each gets a letter, and what is written to a
block is written to its twins, and to what it is in every stage.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from string import ascii_letters
from typing import Any

from search_spaces.errors import SpaceError
from search_spaces.paths import Path, expand, within


class Copies:
    """Which letters a block of the file has.

    base: full plain data of the base and the twins; `part` adds to its blocks. twins: letter ->
    the block that it follows, and the paths below it in which it does not.
    written: the base as paths of the file see it, with the blocks under each stage too.
    """

    def __init__(
        self, base: dict[str, Any], twins: Mapping[str, tuple[str, list[Path]]] | None = None
    ) -> None:
        self.base, self.twins = base, dict(twins or {})
        blocks = dict(base["blocks"])
        stages = [{**stage, "blocks": blocks} for stage in base["stages"]]
        self.written = {**base, "blocks": blocks, "stages": stages}
        self._own: dict[tuple[str, int], str] = {}

    def part(self, texts: Iterable[str]) -> bool:
        """Give a letter of its own to each block that a path names in one stage; say if any.

        Raises: SpaceError where letters run out.
        """
        wanted: set[tuple[str, int]] = set()
        for text in texts:
            places: list[Path] = []
            with suppress(SpaceError):  # said with its line when targets are read
                places = expand(text, self.written)
            for block, _, stage in filter(None, map(_split, places)):
                wanted |= {
                    (letter, stage) for letter in self._following(block) if stage is not None
                }
        blocks, stages = self.base["blocks"], self.base["stages"]
        free = iter([letter for letter in ascii_letters if letter not in blocks])
        for letter in self.written["blocks"]:
            among = [s for s in range(len(stages)) if (letter, s) in wanted]
            if len(among) == len(stages):  # none is left to the block itself
                self._own[letter, among.pop(0)] = letter
            for stage in among:
                self._own[letter, stage] = next(free, "")
                if not self._own[letter, stage]:
                    raise SpaceError("blocks by stage need more letters than there are (52)")
                blocks[self._own[letter, stage]] = copy.deepcopy(blocks[letter])
        for index, stage in enumerate(stages):
            stage["pattern"] = self.spelled(index, stage["pattern"])
        return bool(self._own)

    def _following(self, block: str) -> list[str]:
        return [block, *(twin for twin, (followed, _) in self.twins.items() if followed == block)]

    def own(self, letter: str, stage: int) -> str:
        """Return the letter that a block of the file has in a stage."""
        return self._own.get((letter, stage), letter)

    def is_twin(self, own: str) -> bool:
        """Whether a letter of designs is that of a twin."""
        return next((x for (x, _), y in self._own.items() if y == own), own) in self.twins

    def spelled(self, stage: int, pattern: Any) -> Any:
        """Return a pattern of the file in the letters of a stage."""
        if not isinstance(pattern, str):
            return pattern  # refused where it is read
        return re.sub("[a-zA-Z]", lambda found: self.own(found[0], stage), pattern)

    def places(self, path: Path) -> list[Path]:
        """Return where that which a path of the file names is in designs.

        Raises: SpaceError where a value would write over what sets a twin apart.
        """
        found = _split(path)
        if found is None:
            return [path]
        block, below, stage = found
        places: list[Path] = []
        for letter in self._following(block):
            differs = self.twins[letter][1] if letter != block else []
            if any(within(below, own) for own in differs):
                continue
            over = next((own for own in differs if within(own, below)), None)
            if over is not None:
                raise SpaceError(
                    f"{_text(path)} holds {_text(over)}, in which the twin {letter} differs from "
                    f"{block}; name the fields beside it"
                )
            among = range(len(self.base["stages"])) if stage is None else (stage,)
            letters = dict.fromkeys(self.own(letter, s) for s in among)
            places += [("blocks", own, *below) for own in letters]
        return places

    def said(self, text: str) -> str:
        """Return a message with blocks named as in the file."""
        names = {own: f"stages.{s}.blocks.{letter}" for (letter, s), own in self._own.items()}
        return re.sub(r"\bblocks\.([a-zA-Z])\b", lambda m: names.get(m[1], m[0]), text)


def _split(path: Path) -> tuple[str, Path, int | None] | None:
    """Return block, path below it, and stage where one is named; None for other paths."""
    if path[0] == "blocks" and len(path) > 1:
        return str(path[1]), path[2:], None
    if path[0] == "stages" and path[2:3] == ("blocks",) and len(path) > 3:
        return str(path[3]), path[4:], int(path[1])
    return None


def _text(path: Path) -> str:
    return ".".join(map(str, path))
