"""Root of the project's errors, and the errors of the scan kernels."""

from collections.abc import Iterable
from difflib import get_close_matches


class ScanNASError(Exception):
    """A mistake that a user can mend: the message names the value, the rule and the remedy."""


class KernelError(ScanNASError):
    """A scan was asked for that no backend can run, or with arguments that do not fit."""


def nearest(name: object, known: Iterable[str], otherwise: str) -> str:
    """Return an error's remedy for an unknown name: the nearest known one, or `otherwise`."""
    near = get_close_matches(str(name), list(known), n=1, cutoff=0.4)
    return f"did you mean {near[0]!r}?" if near else otherwise
