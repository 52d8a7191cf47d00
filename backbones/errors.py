"""Errors of the backbone language."""

from kernels.errors import ScanNASError


class ConfigError(ScanNASError):
    """A backbone description, preset or checkpoint that breaks a rule; names value and remedy."""
