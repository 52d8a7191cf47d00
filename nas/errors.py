"""Errors of the search; the CLI turns each into one line and exit code 2."""

from kernels.errors import ScanNASError


class BudgetError(ScanNASError):
    """A budget that cannot be read, or that nothing can meet."""


class StudyError(ScanNASError):
    """A study that does not exist, or that cannot be continued as asked."""


class DataError(ScanNASError):
    """A data set that is missing, or that cannot be trained on."""


class StoreError(ScanNASError):
    """A database that cannot be opened, or of another schema."""


class TrainingError(ScanNASError):
    """A full training or an evaluation that cannot be made as asked."""
