"""Where the command line is put together and entered.

Reading commands answer in under a second: whatever needs torch, optuna or ray is imported inside
the command that uses it.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import typer
from typer.exceptions import TyperException

from kernels.errors import ScanNASError
from nas.commands import compare, db, draw, keep, look, probe, search, train
from nas.report.text import INSTALLED, invoked_as

# Read when torch loads its OpenMP runtime. By default a thread that waits spins for milliseconds
# and takes the core from the very thread it waits for as soon as anything else runs; not spinning
# at all costs a third of the speed of a quiet machine. See "Waiting threads" in docs/kernels.md.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

app = typer.Typer(
    help="Neural architecture search over scan designs for vision backbones.",
    no_args_is_help=True,
    add_completion=invoked_as() == INSTALLED,  # shells complete commands, not `python cli.py`
    pretty_exceptions_enable=False,
)
for room in (search, compare, look, keep, train, draw, db, probe):
    app.add_typer(room.app)


def main() -> None:
    """Run the command line; a user's mistake is one line on stderr and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except ScanNASError as exc:
        _fail(str(exc))
    except TyperException as exc:
        message = exc.format_message().strip()
        if not message:  # no arguments: typer has printed the help
            sys.exit(2)
        _fail(f"{message} (see --help)")
    except typer.Abort:
        sys.exit(130)
    sys.exit(code or 0)


def _fail(message: str) -> NoReturn:
    print("error:", " ".join(message.split()), file=sys.stderr)
    sys.exit(2)
