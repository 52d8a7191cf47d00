"""Root of the project's errors, and the errors of the scan kernels."""


class ScanNASError(Exception):
    """A mistake that a user can mend: the message names the value, the rule and the remedy."""


class KernelError(ScanNASError):
    """A scan was asked for that no backend can run, or with arguments that do not fit."""
