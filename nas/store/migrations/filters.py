"""What our migrations may see of a database that is Optuna's as well."""

from __future__ import annotations

from typing import Any

from nas.store.tables import PREFIX


def is_ours(name: str | None, kind: str, parents: Any) -> bool:
    """Whether a name belongs to one of our tables."""
    return kind != "table" or (name is not None and name.startswith(PREFIX))
