"""JSON Schemas of the files that people write, so that editors complete and check them.

A schema is the shape that a model accepts, bare values for mappings and registered parts included,
with each field described by what the docstring of its class says of it. Rules between fields are
not in it: those are checked, with file and line, when a file is loaded.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_FIRST = re.compile(r"^(?P<names>[a-z_0-9]+(?:, [a-z_0-9]+)*): ", re.M)
_NEXT = re.compile(r"[.;] (?P<names>[a-z_0-9]+(?:, [a-z_0-9]+)*): ")


def json_schema(model: type[BaseModel], title: str) -> dict[str, Any]:
    """Return the schema of files that `model` reads, as plain data."""
    schema = model.model_json_schema(by_alias=True)
    parts: dict[str, Any] = schema.setdefault("$defs", {})
    for part in (schema["properties"], *list(parts.values())):
        _name_parts(part, parts)
    for part in (schema, *parts.values()):
        _describe(part, part.get("description", ""))
    for base in model.__mro__[1:]:
        _describe(schema, base.__doc__ or "")
    schema["$defs"] = {name: parts[name] for name in sorted(parts)}
    return {"$schema": _DIALECT, **schema, "title": title}


def _name_parts(node: Any, parts: dict[str, Any]) -> None:
    """Put the parts that stand inside others among the definitions, each once."""
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for value in inner:
        _name_parts(value, parts)
    for options in (value for value in inner if isinstance(value, list)):
        for place, part in enumerate(options):
            if isinstance(part, dict) and part.get("additionalProperties") is False:
                parts[part["title"]] = part
                options[place] = {"$ref": f"#/$defs/{part['title']}"}


def field_notes(docstring: str, fields: set[str]) -> dict[str, str]:
    """Return what a docstring says of fields: `a, b: text`, a paragraph or a sentence."""
    found: dict[str, str] = {}
    text = "\n".join(line.strip() for line in docstring.splitlines())
    in_line = _NEXT.finditer(text.replace("\n", " "))
    at = {m.start("names"): m for m in (*in_line, *_FIRST.finditer(text)) if _known(m, fields)}
    marks = [at[start] for start in sorted(at)]
    for mark, after in zip(marks, [*marks[1:], None]):
        end = len(text) if after is None else after.start("names")
        said = text[mark.end() : end].split("\n\n")[0]
        said = re.split(r"\nSource: ", said)[0]
        for name in mark["names"].split(", "):
            found.setdefault(name, " ".join(said.split()).rstrip(";"))
    return found


def _known(mark: re.Match[str], fields: set[str]) -> bool:
    return all(name in fields for name in mark["names"].split(", "))


def _describe(part: dict[str, Any], said: str) -> None:
    """Give each property the sentence that a docstring has on it, and the whole its first lines."""
    fields = part.get("properties", {})
    for name, text in field_notes(said, set(fields)).items():
        fields[name].setdefault("description", text)
    for field in fields.values():
        field.pop("title", None)
    if "description" in part:
        part["description"] = " ".join(part["description"].split("\n\n")[0].split())
