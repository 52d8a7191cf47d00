"""The present as the database sees it: one clock for all who write, whatever theirs say."""

from __future__ import annotations

from typing import Any, TypeAlias

from sqlalchemy import Double
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class Now(FunctionElement[float]):
    """Seconds since 1970, UTC, on the machine of the database, when a statement runs."""

    type = Double()
    inherit_cache = True


# What functions that write times take; a number in tests, which bend time.
Time: TypeAlias = float | Now


@compiles(Now, "postgresql")  # type: ignore[no-untyped-call,untyped-decorator]
def _postgresql(element: Now, compiler: Any, **_: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS DOUBLE PRECISION)"


@compiles(Now, "sqlite")  # type: ignore[no-untyped-call,untyped-decorator]
def _sqlite(element: Now, compiler: Any, **_: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"
