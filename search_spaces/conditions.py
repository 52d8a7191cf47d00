"""Reads a `when` or a constraint of a space file into a statement.

A mapping states everything in it:

    {order: window}                          the choice has that value
    {order: {in: [window, cross]}}           one of these; {not: omni} any other
    {pattern: {contains: q}}                 the pattern holds the letter, or the list the value;
                                             [q, s] one or the other
    {depth_1: {at_least: 2}}                 also at_most; a number or another choice
    {sum: [depth_1, depth_2], at_most: 12}   of number choices; at_least, is
    {any: [...]}  {all: [...]}  {not: {...}}
    {if: {...}, then: {...}}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from backbones.yaml_files import Loc
from kernels.errors import nearest
from search_spaces.choices import Choice, freeze, show
from search_spaces.statements import (
    Linear,
    Reduced,
    Test,
    all_of,
    any_of,
    negation,
    one_of,
)

WORDS = ("any", "all", "not", "if", "then", "sum")
"""Keys with a meaning of their own; no choice may be called so."""
COMPARISONS = ("is", "at_least", "at_most")
TESTS = ("is", "in", "not", "contains", "at_least", "at_most")

Fail = Callable[[Loc, str], NoReturn]


class Reader:
    """Reads the statements of one file.

    choices: what may be mentioned. fail: raises SpaceError for a place in the file.
    """

    def __init__(self, choices: Mapping[str, Choice], fail: Fail) -> None:
        self._choices = choices
        self._fail = fail

    def read(self, raw: Any, loc: Loc) -> Reduced:
        """Return the statement that `raw` makes.

        Raises: SpaceError with the line, for an unknown choice, word or value, or a comparison
        of what is no number.
        """
        if not isinstance(raw, dict) or not raw:
            self._fail(loc, f"a statement is a mapping such as {{depth: 2}} (found {show(raw)})")
        parts: list[Reduced] = []
        if "sum" in raw:
            parts.append(self._sum(raw, loc))
        if "if" in raw or "then" in raw:
            if not {"if", "then"} <= set(raw):
                self._fail(loc, "if and then go together; write {if: {...}, then: {...}}")
            holds = self.read(raw["if"], (*loc, "if"))
            parts.append(any_of([negation(holds), self.read(raw["then"], (*loc, "then"))]))
        for key, value in raw.items():
            here = (*loc, key)
            if key in ("any", "all"):
                if not isinstance(value, list) or not value:
                    self._fail(here, f"{key} takes a list of statements (found {show(value)})")
                inner = [self.read(v, (*here, i)) for i, v in enumerate(value)]
                parts.append(any_of(inner) if key == "any" else all_of(inner))
            elif key == "not":
                parts.append(negation(self.read(value, here)))
            elif key not in ("if", "then", "sum") and not (key in COMPARISONS and "sum" in raw):
                parts.append(self._tests(self._choice(key, here), value, here))
        return all_of(parts)

    def _choice(self, name: Any, loc: Loc) -> Choice:
        if name not in self._choices:
            known = [*self._choices, *WORDS]
            hint = nearest(name, known, f"choices: {', '.join(self._choices)}")
            self._fail(loc, f"{show(name)} is no choice of this space; {hint}")
        return self._choices[name]

    def _tests(self, choice: Choice, raw: Any, loc: Loc) -> Reduced:
        if not isinstance(raw, dict):
            return one_of(choice.name, [self._option(choice, raw, loc)])
        parts: list[Reduced] = []
        for word, operand in raw.items():
            here = (*loc, word)
            if word in ("at_least", "at_most"):
                parts.append(self._linear([choice.name], word, operand, here))
            elif word == "is":
                parts.append(one_of(choice.name, [self._option(choice, operand, here)]))
            elif word == "in":
                if not isinstance(operand, list) or not operand:
                    self._fail(here, f"in takes a list of values (found {show(operand)})")
                parts.append(one_of(choice.name, [self._option(choice, v, here) for v in operand]))
            elif word == "not":
                self._option(choice, operand, here)
                shown = f"is not {show(operand)}"
                others = [o for o in choice.options if freeze(o) != freeze(operand)]
                parts.append(one_of(choice.name, others, shown))
            elif word == "contains":
                parts.append(self._contains(choice, operand, here))
            else:
                hint = nearest(word, TESTS, f"use {', '.join(TESTS)}")
                self._fail(here, f"unknown word {show(word)}; {hint}")
        return all_of(parts)

    def _option(self, choice: Choice, value: Any, loc: Loc) -> Any:
        if value not in choice:
            self._fail(loc, f"{show(value)} {choice.rule(value)}")
        return value

    def _contains(self, choice: Choice, value: Any, loc: Loc) -> Test:
        if choice.form == "pattern":
            known: list[Any] = list(choice.letters)
        else:
            known = [v for o in choice.options if isinstance(o, list) for v in o]
        if not known:
            self._fail(loc, f"{choice.name} has neither letters nor lists; use is or in")
        wanted = value if isinstance(value, list) else [value]
        held = {freeze(v) for v in known}
        foreign = [v for v in wanted if freeze(v) not in held]
        if foreign or not wanted:
            unique = ", ".join(dict.fromkeys(show(v) for v in known))
            self._fail(loc, f"no option of {choice.name} contains {show((foreign or [value])[0])}; "
                       f"they hold {unique}")  # fmt: skip
        shown = f"contains {' or '.join(show(v) for v in wanted)}"
        return Test(choice.name, "contains", tuple(freeze(v) for v in wanted), shown)

    def _sum(self, raw: dict[str, Any], loc: Loc) -> Reduced:
        names = raw["sum"]
        if not isinstance(names, list) or not names:
            self._fail((*loc, "sum"), f"sum takes a list of choices (found {show(names)})")
        words = [w for w in COMPARISONS if w in raw]
        if len(words) != 1:
            self._fail(loc, f"a sum needs one of {', '.join(COMPARISONS)}")
        listed = [self._choice(n, (*loc, "sum")).name for n in names]
        return self._linear(listed, words[0], raw[words[0]], (*loc, words[0]))

    def _linear(self, names: list[str], word: str, operand: Any, loc: Loc) -> Linear:
        """Return the comparison of a sum of choices with a number or another choice."""
        weights = {name: 0 for name in names}
        for name in names:
            weights[name] += 1
        constant = 0.0
        if isinstance(operand, str):
            other = self._choice(operand, loc).name
            weights[other] = weights.get(other, 0) - 1
        elif isinstance(operand, (int, float)) and not isinstance(operand, bool):
            constant = -operand
        else:
            self._fail(loc, f"{word} takes a number or a choice (found {show(operand)})")
        for name in weights:
            bad = [o for o in self._choices[name].options if not _is_number(o)]
            if bad:
                self._fail(
                    loc, f"{name} cannot be compared: its option {json.dumps(bad[0])} is no number"
                )
        text = f"{' + '.join(names)} {word.replace('_', ' ')} {show(operand)}"
        sign = -1 if word == "at_least" else 1
        terms = tuple(sorted((n, sign * w) for n, w in weights.items() if w))
        if not terms:
            self._fail(loc, f"{text} compares a choice with itself; remove it")
        return Linear(terms, sign * constant, "is" if word == "is" else "at_most", text)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
