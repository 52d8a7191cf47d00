"""The code blocks of README, CONTRIBUTING and docs/, and what is to be run of them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
_MARK = re.compile(r"<!-- (not run|fails): (.+?) -->", re.S)
_CALLS = re.compile(r"^\s*(?:\S*python3? cli\.py|scannas)\s+(.*?)(?:\s+[>&].*)?$")


@dataclass(frozen=True)
class Block:
    """A code block. mark: "not run", "fails" or "", and why, or what it says when it fails."""

    page: Path
    line: int
    language: str
    text: str
    mark: str = ""
    why: str = ""

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """The arguments of each call of the command line that the block shows."""
        joined = re.sub(r"\\\n\s*", " ", self.text)
        calls = [_CALLS.match(line) for line in joined.splitlines()]
        return [shlex.split(call[1], comments=True) for call in calls if call]

    @property
    def others(self) -> list[str]:
        """Its lines that call something else: make, pip, a script."""
        known = r"^\s*(?:make|\S*pip|\S*python3?|export|unshare)\s"
        return [
            line.split("#")[0].strip()
            for line in self.text.splitlines()
            if re.match(known, line) and not _CALLS.match(line)
        ]


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page, in order."""
    found, mark, why = [], "", ""
    for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block" and (said := _MARK.search(token.content)):
            mark, why = said[1], " ".join(said[2].split())
        elif token.type in ("fence", "code_block"):
            line = token.map[0] + 1
            found.append(Block(page, line, token.info, token.content, mark, why))
            mark, why = "", ""
        elif token.type in ("heading_open", "paragraph_open"):
            mark, why = "", ""
    return found
