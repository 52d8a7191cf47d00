"""What a space is, apart from its words: for comparing a stored one with a file."""

from __future__ import annotations

import json
from typing import Any

import yaml

from search_spaces.definition import Definition

UNSEEN = ("name", "family", "drop_path_rate", "conv_init", "class_token_std")
"""Fields of a base that say nothing of the function of its designs."""


def content(space: Definition) -> dict[str, Any]:
    """Return what decides which designs there are, as plain data."""
    described = {
        name: {
            **space.choices[name].describe(),
            **({"when": entry.when} if entry.when is not None else {}),
        }
        for name, entry in space.file.choices.items()
    }
    base = space.base_config.to_dict()
    followed = {twin: entry.of for twin, entry in space.file.twins.items()}
    return {
        **({"twins": followed} if followed else {}),
        "base": {k: v for k, v in base.items() if k not in UNSEEN},
        "choices": described,
        "constraints": list(space.file.constraints),
        "fit": None if space.file.fit is None else space.file.fit.model_dump(),
    }


def differences(at: str, a: Any, b: Any) -> list[str]:
    """Return what changes from one content to another, a line for each."""
    if a == b:
        return []
    if isinstance(a, dict) and isinstance(b, dict):
        lines: list[str] = []
        for key in dict.fromkeys([*a, *b]):
            here = f"{at}.{key}" if at else str(key)
            if key not in b:
                lines.append(f"{here}: removed (was {_brief(a[key])})")
            elif key not in a:
                lines.append(f"{here}: added ({_brief(b[key])})")
            else:
                lines += differences(here, a[key], b[key])
        return lines
    return [f"{at}: {_brief(a)} -> {_brief(b)}"]


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def self_contained(text: str, definition: Definition) -> str:
    """Return space text in which the base no longer names a preset or a file."""
    if not isinstance(definition.file.base, str):
        return text
    data = yaml.safe_load(text)
    data["base"] = definition.stated.to_dict()
    return yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=100)
