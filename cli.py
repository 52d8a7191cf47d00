"""The front door: parse the command line, call `nas`, print.

Reading commands answer in under a second: whatever needs torch, optuna or ray is imported inside
the command that uses it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from kernels.errors import ScanNASError

# Read when torch loads its OpenMP runtime. By default a thread that waits spins for milliseconds
# and takes the core from the very thread it waits for as soon as anything else runs; not spinning
# at all costs a third of the speed of a quiet machine. See "Waiting threads" in docs/kernels.md.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

app = typer.Typer(
    help="Neural architecture search over scan designs for vision backbones.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DEFAULT_STORAGE = "sqlite:///runs/nas.db"
STUDY_ROOM, LOOK_ROOM = "Search", "Look"
MACHINES = "Where trials run"

StorageOption = Annotated[
    str, typer.Option(help="Database URL.", envvar="SCANNAS_STORAGE", show_envvar=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
ExecutorOption = Annotated[str, typer.Option(help="auto, inline or ray.", rich_help_panel=MACHINES)]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Trials at a time (Ray).", rich_help_panel=MACHINES)
]
GpusOption = Annotated[
    float | None,
    typer.Option(min=0, help="GPUs per trial; may be a fraction.", rich_help_panel=MACHINES),
]
CpusOption = Annotated[
    float | None,
    typer.Option(min=0, help="CPUs per trial; default: its threads.", rich_help_panel=MACHINES),
]
AddressOption = Annotated[
    str | None, typer.Option(help="An existing Ray cluster.", rich_help_panel=MACHINES)
]
CheckpointsOption = Annotated[
    Path | None,
    typer.Option(help="Folder of checkpoints; shared on a cluster.", rich_help_panel=MACHINES),
]
QuotaOption = Annotated[
    float | None,
    typer.Option(
        "--max-checkpoint-gb",
        min=0,
        help="What checkpoints may take together.",
        rich_help_panel=MACHINES,
    ),
]
TimeoutOption = Annotated[
    float | None, typer.Option(min=1, help="Stop starting trials after S seconds.")
]
ExportOption = Annotated[Path | None, typer.Option(help="Where the best architecture goes.")]
ImageSizeOption = Annotated[
    int, typer.Option(min=32, help="Side in pixels at which cost is counted.")
]


@app.command(rich_help_panel=STUDY_ROOM)
def search(
    space: Annotated[str, typer.Option(help="Shipped space, or path to a YAML file.")],
    budget: Annotated[
        list[str], typer.Option(help="4.5GFLOPs, 4.2-4.5GFLOPs, 30Mparams; may be repeated.")
    ],
    study: Annotated[str | None, typer.Option(help="Name; an existing study is continued.")] = None,
    trials: Annotated[
        int, typer.Option(min=1, help="Candidates to train, beside the baselines.")
    ] = 12,
    timeout: TimeoutOption = None,
    trial_timeout: Annotated[
        float | None, typer.Option(min=1, help="End a trial after S seconds, as `timeout`.")
    ] = None,
    strategy: Annotated[
        str, typer.Option(help="evolution, tpe, nsga2, random or grid.")
    ] = "evolution",
    data: Annotated[
        str | None, typer.Option(help="scenes, digits, patterns or folder:PATH.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="YAML recipe of the training proxy.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs per trial.")] = None,
    image_size: ImageSizeOption = 224,
    storage: StorageOption = DEFAULT_STORAGE,
    backend: Annotated[
        str, typer.Option(help="Scan kernels: auto, reference, numba, triton, mamba_ssm.")
    ] = "auto",
    warm_start: Annotated[
        str, typer.Option(help="presets: train the published designs too; none: skip them.")
    ] = "presets",
    objective: Annotated[str, typer.Option(help="top1, or top1,flops or top1,params.")] = "top1",
    pruner: Annotated[str, typer.Option(help="asha or none.")] = "none",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    data_dir: Annotated[str | None, typer.Option(help="Where timm data sets lie.")] = None,
    executor: ExecutorOption = "auto",
    workers: WorkersOption = None,
    gpus_per_trial: GpusOption = None,
    cpus_per_trial: CpusOption = None,
    ray_address: AddressOption = None,
    checkpoints: CheckpointsOption = None,
    max_checkpoint_gb: QuotaOption = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    export: ExportOption = None,
) -> None:
    """Search a space under a budget; ends with the best design, exported."""
    from nas.driver.disk import make_folder
    from nas.driver.studies import start
    from nas.executors import choose_executor
    from nas.report.search import search_and_report
    from nas.study.budget import parse_budget
    from nas.study.settings import search_settings

    settings = search_settings(
        space=space,
        budget=parse_budget(budget),
        trials=trials,
        timeout_s=timeout,
        trial_timeout_s=trial_timeout,
        strategy=strategy,
        data=data,
        recipe_path=recipe,
        epochs=epochs,
        image_size=image_size,
        backend=backend,
        warm_start=warm_start,
        seed=seed,
        objectives=objective.split(","),
        pruner=pruner,
        device=device,
        data_dir=data_dir,
    )
    runner = choose_executor(
        executor,
        device=settings.device,
        threads=settings.recipe.threads,
        workers=workers,
        cpus_per_trial=cpus_per_trial,
        gpus_per_trial=gpus_per_trial,
        ray_address=ray_address,
    )
    folder = None if checkpoints is None else make_folder(checkpoints)
    opened = start(study, storage, settings)
    search_and_report(
        opened,
        storage,
        executor=runner,
        checkpoints=folder,
        max_checkpoint_gb=max_checkpoint_gb,
        export=export,
    )


@app.command(rich_help_panel=STUDY_ROOM)
def resume(
    study: str,
    trials: Annotated[
        int | None, typer.Option(min=1, help="New total of candidates to train.")
    ] = None,
    timeout: TimeoutOption = None,
    executor: ExecutorOption = "auto",
    workers: WorkersOption = None,
    gpus_per_trial: GpusOption = None,
    cpus_per_trial: CpusOption = None,
    ray_address: AddressOption = None,
    checkpoints: CheckpointsOption = None,
    max_checkpoint_gb: QuotaOption = None,
    storage: StorageOption = DEFAULT_STORAGE,
    export: ExportOption = None,
) -> None:
    """Continue a study with its stored settings, whatever ended it."""
    from nas.driver.disk import make_folder
    from nas.driver.studies import open_study
    from nas.executors import choose_executor
    from nas.report.search import search_and_report

    folder = None if checkpoints is None else make_folder(checkpoints)
    opened = open_study(study, storage)
    runner = choose_executor(
        executor,
        device=opened.settings.device,
        threads=opened.settings.recipe.threads,
        workers=workers,
        cpus_per_trial=cpus_per_trial,
        gpus_per_trial=gpus_per_trial,
        ray_address=ray_address,
    )
    search_and_report(
        opened,
        storage,
        executor=runner,
        trials=trials,
        timeout_s=timeout,
        checkpoints=folder,
        max_checkpoint_gb=max_checkpoint_gb,
        export=export,
    )


@app.command(rich_help_panel=LOOK_ROOM)
def studies(storage: StorageOption = DEFAULT_STORAGE, json: JsonOption = False) -> None:
    """List the studies of a database."""
    from nas.report import console
    from nas.report.studies import studies_table
    from nas.store import queries as leaderboard

    console.emit(leaderboard.studies(storage), json, studies_table)


@app.command(rich_help_panel=LOOK_ROOM)
def status(study: str, storage: StorageOption = DEFAULT_STORAGE, json: JsonOption = False) -> None:
    """Say what runs, what waits, what failed and why, and when it will be done."""
    from nas.report import console
    from nas.report.studies import status_view
    from nas.store import queries as leaderboard

    console.emit(leaderboard.status(study, storage), json, status_view)


@app.command(rich_help_panel=LOOK_ROOM)
def show(
    study: str,
    trial: Annotated[int | None, typer.Option(help="One trial in full.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Rows of the leaderboard.")] = 10,
    storage: StorageOption = DEFAULT_STORAGE,
    json: JsonOption = False,
) -> None:
    """Show the leaderboard, the baselines and the Pareto front, or one trial."""
    from nas.report import console
    from nas.report.studies import summary_view, trial_view
    from nas.store import queries as leaderboard

    if trial is None:
        console.emit(leaderboard.summary(study, storage, top=top), json, summary_view)
    else:
        console.emit(leaderboard.trial(study, storage, trial), json, trial_view)


@app.command("run-trial", rich_help_panel=STUDY_ROOM)
def run_trial(study: str, trial: int, storage: StorageOption = DEFAULT_STORAGE) -> None:
    """Train one recorded trial again, alone, and compare its score with the recorded one."""
    from nas.executors.rerun import rerun_trial
    from nas.report.search import report_rerun

    report_rerun(rerun_trial(study, storage, trial))


@app.command(rich_help_panel=STUDY_ROOM)
def export(
    study: str,
    trial: Annotated[str, typer.Option(help="A number, best, or pareto.")] = "best",
    out: Annotated[Path | None, typer.Option(help="File (pareto: folder) to write.")] = None,
    weights: Annotated[
        bool, typer.Option("--weights", help="Write seeded initial weights beside it.")
    ] = False,
    storage: StorageOption = DEFAULT_STORAGE,
) -> None:
    """Write a design as a config that rebuilds the identical model, and prove that it does."""
    from nas.export.config import export_trials
    from nas.report.search import report_exports

    report_exports(export_trials(study, storage, which=trial, out=out, weights=weights))


@app.command(rich_help_panel=LOOK_ROOM)
def profile(
    arch: Annotated[str, typer.Argument(help="Preset, config file or exported file.")],
    image_size: ImageSizeOption = 224,
    convention: Annotated[str, typer.Option(help="fvcore or macs.")] = "fvcore",
    verify: Annotated[
        bool, typer.Option("--verify", help="Build the model and compare with fvcore's count.")
    ] = False,
    latency: Annotated[bool, typer.Option("--latency", help="Measure images per second.")] = False,
    json: JsonOption = False,
) -> None:
    """Show parameters and FLOPs per stage and component."""
    from nas.report import console, profile

    report = profile.profile(
        arch, image_size=image_size, convention=convention, verify=verify, latency=latency
    )
    console.emit(report, json, console.profile_view)


@app.command(rich_help_panel=LOOK_ROOM)
def presets(json: JsonOption = False) -> None:
    """List the published backbones."""
    from nas.report import console, profile

    console.emit(profile.presets(), json, console.presets_table)


@app.command(rich_help_panel=LOOK_ROOM)
def spaces(
    name: Annotated[str | None, typer.Argument(help="Shipped space or YAML file.")] = None,
    json: JsonOption = False,
) -> None:
    """List the shipped search spaces, or explain one."""
    from nas.report import console, spaces

    if name is None:
        console.emit(spaces.listing(), json, console.spaces_table)
    else:
        console.emit(spaces.explain(name), json, console.space_view)


@app.command(rich_help_panel=STUDY_ROOM)
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="Released checkpoint (.pth, .safetensors).")],
    preset: Annotated[str, typer.Option(help="The preset that the weights belong to.")],
    out: Annotated[Path, typer.Option(help="Safetensors file to write.")],
) -> None:
    """Rewrite an official checkpoint with this project's keys, every key accounted for."""
    from backbones import convert_checkpoint

    convert_checkpoint(checkpoint, preset, out)
    print(f"wrote {out}: all keys of {preset} found, none left over")


@app.command(rich_help_panel=LOOK_ROOM)
def doctor(json: JsonOption = False) -> None:
    """Report devices, scan backends and versions, and why something is unavailable."""
    from nas.report import console, doctor

    console.emit(doctor.examine(), json, console.doctor_view)


db = typer.Typer(help="Look after a database: check, back up, upgrade.", no_args_is_help=True)
app.add_typer(db, name="db", rich_help_panel=LOOK_ROOM)


@db.command("check")
def db_check(storage: StorageOption = DEFAULT_STORAGE, json: JsonOption = False) -> None:
    """Look for damage and loose ends, each with its remedy."""
    from nas.report import console, studies
    from nas.store.maintenance import check_database

    console.emit(check_database(storage), json, studies.findings_table)


@db.command("backup")
def db_backup(out: Path, storage: StorageOption = DEFAULT_STORAGE) -> None:
    """Copy an SQLite database while it is in use."""
    from nas.store.maintenance import backup_database

    print(f"wrote {backup_database(storage, out)}")


@db.command("upgrade")
def db_upgrade(storage: StorageOption = DEFAULT_STORAGE) -> None:
    """Bring a database of an older version to this one; SQLite is copied first."""
    from nas.store.maintenance import upgrade_database

    done = upgrade_database(storage)
    kept = f"; the former file is {done['backup']}" if done["backup"] else ""
    print(f"schema {done['before']} -> {done['after']}{kept}")


def main() -> None:
    """Run the command line; a user's mistake is one line on stderr and exit code 2."""
    from typer.exceptions import TyperException

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


if __name__ == "__main__":
    main()
