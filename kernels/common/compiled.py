"""Compiling for the CPU with numba, and keeping what was compiled until its sources change.

numba finds compiled kernels on disk by the time stamp of their own file alone. What `kernel`
compiles is found only while the vector type, and all files beside the kernel's, are what they
were: a kernel takes constants and functions from both.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache


@cache
def sources_version(folder: Path, common: Path = Path(__file__).parent) -> str:
    """Return a hash of the Python files of a folder, and of those of the vector type."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.py"), *common.glob("lane*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _VersionedCache(FunctionCache):
    """numba's cache on disk, with the version of the sources in its key."""

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        folder = Path(self._py_func.__code__.co_filename).parent
        return (*super()._index_key(sig, codegen), sources_version(folder))


def kernel(function: Any) -> Any:
    """Compile a function that runs without the interpreter's lock; keep it on disk."""
    dispatcher = njit(nogil=True, cache=True)(function)
    dispatcher._cache = _VersionedCache(function)
    return dispatcher


inlined = njit(inline="always")
"""Compile a function into those that call it."""
