"""All trials of a study as one table, for other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.errors import StudyError

if TYPE_CHECKING:
    import pandas

FORMATS = ("csv", "json", "parquet")


def write_table(study: str, trials: list[dict[str, Any]], format: str, out: Path | None) -> None:
    """Write `nas.store.queries.trials` to `out`, or print it.

    In csv and parquet every choice is a column `choices.NAME`; json keeps them together, and
    is what `--warm-start` and `enqueue` read. Parquet, which nobody can read off a screen, goes to
    STUDY.parquet.
    Raises: StudyError for an unknown format, a file that cannot be written, or a package that
        parquet needs and is not there.
    """
    if format not in FORMATS:
        raise StudyError(f"unknown format {format!r} (known: {', '.join(FORMATS)})")
    if format == "parquet":
        out = out or Path(f"{study}.parquet")
    try:
        _write(study, trials, format, out)
    except OSError as error:
        raise StudyError(f"cannot write {str(out)!r}: {error}; choose another --out") from None
    except ImportError as error:
        raise StudyError(
            f"format {format!r} needs another package ({error.name or 'pyarrow'}); "
            "pip install 'scannas[parquet]'"
        ) from None
    if out is not None:
        print(f"wrote {out}: {len(trials)} trials")


def trials_frame(study: str, trials: list[dict[str, Any]]) -> pandas.DataFrame:
    """Return `nas.store.queries.trials` as a table, every choice in a column `choices.NAME`."""
    import pandas

    return pandas.json_normalize(_rows(study, trials), max_level=1)


def _rows(study: str, trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"study": study, "trial": trial["trial"], **trial} for trial in trials]


def _write(study: str, trials: list[dict[str, Any]], format: str, out: Path | None) -> None:
    if format == "json":
        _put(json.dumps(_rows(study, trials), indent=2), out)
        return
    from pandas.api.types import infer_dtype

    table = trials_frame(study, trials)
    for column in table.columns:
        # A choice may be a list, and one name may hold numbers here and words there.
        if infer_dtype(table[column]) in ("mixed", "mixed-integer"):
            table[column] = table[column].map(_cell)
    if format == "csv":
        _put(table.to_csv(index=False).rstrip("\n"), out)
    else:
        table.to_parquet(out, index=False)


def _cell(value: Any) -> Any:
    """Return a cell as text, an empty one (None, or the NaN of pandas) as it is."""
    empty = value is None or value != value
    return value if isinstance(value, str) or empty else json.dumps(value)


def _put(text: str, out: Path | None) -> None:
    if out is None:
        print(text)
    else:
        out.write_text(text + "\n")
