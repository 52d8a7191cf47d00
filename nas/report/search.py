"""The course of a search on a terminal: progress, result, exported file."""

from __future__ import annotations

import sys
from pathlib import Path

from nas.driver.studies import Study, run
from nas.errors import StudyError
from nas.executors import Executor
from nas.executors.rerun import Rerun
from nas.export.config import export_trials
from nas.report.console import console
from nas.report.live import Live
from nas.report.studies import summary_view
from nas.report.text import percent
from nas.store import queries as leaderboard


def search_and_report(
    study: Study,
    storage: str,
    *,
    executor: Executor,
    trials: int | None = None,
    timeout_s: float | None = None,
    checkpoints: Path | None = None,
    max_checkpoint_gb: float | None = None,
    export: Path | None = None,
) -> None:
    """Run a study, then print its best design, its baselines and the exported file.

    Exits with 1 when no candidate has a score. Raises: whatever `nas.driver.studies.run` raises.
    """
    try:
        with Live(console) as live:
            finished = run(
                study,
                live,
                trials=trials,
                timeout_s=timeout_s,
                executor=executor,
                checkpoints=checkpoints,
                max_checkpoint_gb=max_checkpoint_gb,
            )
    finally:
        study.close()
    console.print()
    summary = leaderboard.summary(study.name, storage, top=5)
    console.print(summary_view(summary))
    console.print(f"\n{finished.reason}", highlight=False)
    if summary["best"] is not None:
        report_exports(export_trials(study.name, storage, which="best", out=export))
    if not finished.complete:
        console.print(f"continue with: python cli.py resume {study.name}", highlight=False)
    if summary["best"] is None:
        sys.exit(1)


def report_exports(written: list[tuple[int, Path]]) -> None:
    """Name the files that were written and what to do with them."""
    for trial, path in written:
        console.print(
            f"trial {trial} exported to {path}, rebuilt from it in a fresh interpreter and equal\n"
            f"look at it with: python cli.py profile {path}",
            highlight=False,
            soft_wrap=True,
        )


def report_rerun(rerun: Rerun) -> None:
    """Compare the score of a trial trained again with the recorded one; exit 1 if they differ."""
    if rerun.error is not None:
        raise StudyError(f"trial {rerun.trial} ended as {rerun.outcome} again: {rerun.error}")
    verdict = "the same, bit for bit" if rerun.same else "DIFFERENT"
    console.print(
        f"{rerun.study} trial {rerun.trial} on {rerun.backend}: recorded "
        f"{percent(rerun.recorded, 4)}, now {percent(rerun.score, 4)}: {verdict}",
        highlight=False,
    )
    if not rerun.same:
        sys.exit(1)
