"""Room for checkpoints: a full disk makes a search wait, and a quota bounds what it takes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from nas.errors import StudyError

# Below this a disk counts as full. The database needs some of it to say so.
LEAST_FREE = 128 << 20
# What a checkpoint is taken to need before one has been seen.
FIRST_GUESS = 32 << 20


def shortage(folder: Path, least: int = LEAST_FREE) -> str | None:
    """Return why nothing should be written to `folder` now, None when there is room."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    free = shutil.disk_usage(there).free
    if free >= least:
        return None
    return f"the disk of {str(there)!r} has {free >> 20} MiB free, less than {least >> 20} MiB"


def make_folder(folder: Path) -> Path:
    """Return the absolute path of a folder, made if need be.

    Raises: StudyError where nothing can be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StudyError(
            f"cannot write checkpoints to {str(folder)!r}: {error.strerror}; choose another folder"
        ) from None
    return folder.absolute()


def size_of(folder: Path) -> int:
    """Return how many bytes the files of a folder take."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            pass  # a trial has just ended
    return total


class Quota:
    """Decides which trials may write checkpoints, so that all together stay below a limit."""

    def __init__(self, folder: Path, limit: int | None) -> None:
        self.folder, self.limit = folder, limit
        self._largest = 0

    def admits(self, checkpoint: Path, live: set[str]) -> bool:
        """Whether `checkpoint` may be written beside those of other unfinished trials."""
        if self.limit is None:
            return True
        others = {Path(path).name for path in live} - {checkpoint.name}
        sizes = {name: size_of(self.folder / name) for name in others | {checkpoint.name}}
        self._largest = max(self._largest, *sizes.values())
        each = self._largest or FIRST_GUESS
        # A trial that has written nothing yet will.
        return sum(max(size, each) for size in sizes.values()) <= self.limit
