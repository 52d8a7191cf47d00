"""YAML files whose mistakes are reported with file and line.

pydantic names the offending field by its path inside the document; this module knows on
which line of the file that path was written and which valid key is nearest to a misspelt one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from backbones.registry import Registry
from kernels.errors import nearest

Loc = tuple[int | str, ...]
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Document:
    """A parsed YAML mapping with the line of every node.

    data: plain dicts, lists and scalars.
    source: file name for messages, or a description such as "inline config".
    lines: path inside the document -> 1-based line.
    """

    data: Any
    source: str
    lines: dict[Loc, int] = field(default_factory=dict)

    def where(self, loc: Loc) -> str:
        """Return "file:line" of the deepest written ancestor of `loc`."""
        for end in range(len(loc), -1, -1):
            if loc[:end] in self.lines:
                return f"{self.source}:{self.lines[loc[:end]]}"
        return self.source


def _index(node: yaml.Node, loc: Loc, lines: dict[Loc, int]) -> None:
    lines.setdefault(loc, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else str(key.value)
            lines[(*loc, name)] = key.start_mark.line + 1
            _index(value, (*loc, name), lines)
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            _index(item, (*loc, i), lines)


def parse(text: str, source: str, error: type[Exception]) -> Document:
    """Parse YAML text into a Document.

    Raises: `error` with file, line and the parser's reason when the text is not YAML, holds a
    key twice, or is not a mapping.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines: dict[Loc, int] = {}
        if node is not None:
            _reject_repeated_keys(node, source, error)
            _index(node, (), lines)
        data = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        reason = getattr(exc, "problem", None) or str(exc).splitlines()[0]
        raise error(f"{source}{line}: not valid YAML ({reason}); fix the syntax there") from None
    if not isinstance(data, dict):
        raise error(
            f"{source}: found {type(data).__name__} at the top, expected a mapping of keys; "
            "start the file with 'schema: 1'"
        )
    return Document(data, source, lines)


def _reject_repeated_keys(node: yaml.Node, source: str, error: type[Exception]) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise error(
                    f"{source}:{key.start_mark.line + 1}: key {key.value!r} is written twice; "
                    "keep one of them"
                )
            seen.add(str(key.value))
            _reject_repeated_keys(value, source, error)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _reject_repeated_keys(item, source, error)


def read(path: str | Path, error: type[Exception]) -> Document:
    """Read a YAML file into a Document; an unreadable file is an `error`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise error(f"cannot read {str(path)!r}: {exc}; check the path") from None
    return parse(text, str(path), error)


def validate(model: type[M], document: Document, error: type[Exception]) -> M:
    """Build `model` from a document; the first mistake becomes a one-line `error`.

    The message holds file:line, the path of the field, the value found, the rule, and for a
    misspelt key the nearest valid one.
    """
    try:
        return model.model_validate(document.data)
    except ValidationError as exc:
        raise error(describe(exc, model, document)) from None


def describe(exc: ValidationError, model: type[BaseModel], document: Document) -> str:
    """Turn a pydantic error into one line: where, what was found, the rule, the remedy."""
    # An unknown key explains the missing one it was meant to be: report it first.
    problems = sorted(exc.errors(), key=lambda e: e["type"] != "extra_forbidden")
    first = problems[0]
    loc = _written(first["loc"], document.data)
    path = ".".join(str(p) for p in loc) or "(top level)"
    more = f" (+{len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        near = _nearest_key(model, loc, document.data)
        return f"{document.where(loc)}: unknown key {path!r}{near}{more}"
    rule = first["msg"].removeprefix("Value error, ")
    found = first.get("input")
    told = isinstance(found, (dict, BaseModel)) or first["type"] == "unknown_kind"
    shown = "" if told else f" (found {found!r})"
    if not loc:  # a rule between fields: its message begins with the path of the one to change
        named = tuple(int(p) if p.isdigit() else p for p in rule.split()[0].strip(":").split("."))
        return f"{document.where(named)}: {rule}{more}"
    return f"{document.where(loc)}: {path}: {rule}{shown}{more}"


def reason(error: ValueError) -> str:
    """Return the first rule that an error of pydantic's, or a plain one, says was broken."""
    if isinstance(error, ValidationError):
        return error.errors()[0]["msg"].removeprefix("Value error, ")
    return str(error)


def _written(loc: Loc, data: Any) -> Loc:
    """Return a path without the parts that pydantic adds for keys and the members of a union."""
    node = data
    loc = loc[:-1] if loc[-1:] == ("[key]",) else loc
    for depth, step in enumerate(loc):
        if isinstance(node, dict) and data:
            node = node.get(step)
        elif isinstance(node, list) and isinstance(step, int) and step < len(node):
            node = node[step]
        elif data:
            return loc[:depth]
    return loc


def _nearest_key(model: type[BaseModel], loc: Loc, data: Any) -> str:
    candidates: list[type[BaseModel]] = [model]
    for part in loc[:-1]:
        data = data.get(part) if isinstance(data, dict) else None
        inner = [
            m
            for c in candidates
            if part in c.model_fields
            for m in _models_in(_annotation(c.model_fields[str(part)]), data)
        ]
        candidates = inner or candidates
    keys = sorted({name for m in candidates for name in m.model_fields})
    return "; " + nearest(loc[-1], keys, f"valid keys are {', '.join(keys)}")


def _annotation(field: Any) -> Any:
    return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation


def _models_in(annotation: Any, data: Any) -> list[type[BaseModel]]:
    """Return the models that may stand where an annotation does; of parts, that of the kind."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    parts = get_args(annotation)
    for part in parts:
        if isinstance(part, Registry):
            kind = data.get("kind") if isinstance(data, dict) else None
            return [part.load(kind)] if kind in part.places else part.classes()
    return [m for part in parts for m in _models_in(part, data)]
