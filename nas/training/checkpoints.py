"""Checkpoints of one run: a file that is whole or absent, and belongs to one run.

The file is written beside its place and renamed, so a kill leaves the last whole epoch. It
carries the identity of its run and is refused by any other.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from nas.errors import StudyError

FILE_NAME = "proxy.pt"
_FORMAT = 2


def save(
    directory: str | Path, key: dict[str, Any], state: dict[str, Any], name: str = FILE_NAME
) -> None:
    """Write the state of a run, replacing the one before.

    Raises: StudyError where the directory cannot be written.
    """
    folder = Path(directory)
    part = folder / f"{name}.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            torch.save({"format": _FORMAT, "key": key, "state": state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, folder / name)
    except OSError as exc:
        with suppress(OSError):
            part.unlink()
        raise StudyError(
            f"checkpoint {str(folder / name)!r} cannot be written: {exc.strerror}; free "
            "space or choose another directory"
        ) from None


def load(
    directory: str | Path, key: dict[str, Any], name: str = FILE_NAME
) -> dict[str, Any] | None:
    """Return the state that a run left, or None where there is none.

    Raises: StudyError for a file that cannot be read, or that another run left.
    """
    path = Path(directory) / name
    if not path.exists():
        return None
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:  # a damaged file raises anything from EOFError to UnpicklingError
        raise StudyError(
            f"checkpoint {str(path)!r} cannot be read ({type(exc).__name__}); remove it to train "
            "from the start"
        ) from None
    differing = [k for k in key if found.get("key", {}).get(k) != key[k]]
    if found.get("format") != _FORMAT or differing:
        raise StudyError(
            f"checkpoint {str(path)!r} belongs to another run (other "
            f"{', '.join(differing) or 'format'}); remove it or choose another directory"
        )
    state: dict[str, Any] = found["state"]
    return state
