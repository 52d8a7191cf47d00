"""The papers' ablation tables, trained small: ours beside theirs.

    python benchmarks/ablation_tables.py --tables vmamba_scan quadmamba_windows --seeds 5
    python benchmarks/ablation_tables.py --markdown        # what is known so far, as a page

All designs of all tables cost 4.5 GFLOPs at 224 px and are scaled to the same small network cost.
Runs are kept in a database: ended at any time, the same command goes on; the result file is
written after every table and says of which it holds all seeds. With one thread, about 10 s of CPU
time a run.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nas.driver.ablating import question, table_of  # noqa: E402
from nas.driver.request import this_machine  # noqa: E402
from nas.driver.running import run  # noqa: E402
from nas.driver.studies import start  # noqa: E402
from nas.evidence.findings import PublishedTable, table_sentences  # noqa: E402
from nas.evidence.words import difference  # noqa: E402
from nas.executors.inline import InlineExecutor  # noqa: E402
from nas.store import comparisons, queries  # noqa: E402
from nas.study.comparison import Held, TableAsked  # noqa: E402
from nas.study.recipe import Recipe  # noqa: E402

# Marks on a grid of 12 x 12 tokens, a label per token and relation: what a scan has to carry.
RECIPE = Recipe(
    task="dense",
    dataset="relations",
    train_size=600,
    val_size=200,
    image_size=48,
    stem_stride=4,
    flops_ratio=4e-4,
    depth_ratio=0.1,
    epochs=4,
    batch_size=16,
    lr=8e-3,
    threads=1,
)
BUDGET = "4.5GFLOPs"
TABLES = ("vmamba_scan", "quadmamba_windows", "mambaout_stages", "vmamba_d_state",
          "quadmamba_shifts", "vmamba_mlp", "quadmamba_resolutions")  # fmt: skip
RESULTS = ROOT / "benchmarks" / "results"


def train(name: str, seeds: int, storage: str, recipe: Path) -> bool:
    """Train what is missing of a table; return whether it is whole."""
    place = this_machine("cpu")
    settings, _ = question(table=name, place=place, budget=BUDGET, recipe=recipe)
    study = start(f"table-{name}", storage, settings, place)
    try:
        study.compare(table_of(settings, seeds))
        return run(study, InlineExecutor(), print_ends).complete
    finally:
        study.close()


def print_ends(event: object) -> None:
    if type(event).__name__ in ("TrialFinished", "Notice"):
        print(event, flush=True)


def collect(storage: str) -> dict:
    """Return every table's question, finding and scores."""
    from nas.store.session import opened

    found = {}
    with opened(storage) as store:
        for row in queries.studies(storage):
            if not row["study"].startswith("table-"):
                continue
            summary = queries.summary(row["study"], storage, top=1)
            held = next((Held.model_validate(h) for h in summary["comparisons"]), None)
            if held is None or not isinstance(held.asked, TableAsked):
                continue
            known = store.read(lambda s, name=row["study"]: _runs(s, name))
            found[held.asked.table] = {
                "metrics": held.asked.metrics,
                "left_out": held.asked.left_out,
                "seeds_asked": held.asked.seeds,
                "done": held.done,
                "found": held.found,
                "runs": known,
            }
    return found


def _runs(session, name: str) -> list:
    from nas.store.history import find_study

    study = find_study(session, name, "")
    rows = comparisons.trained(session, study.id, "table")
    return [[r.label, r.seed_index, r.score, r.state] for r in rows]


def markdown(tables: dict) -> str:
    """Return the tables as they stand in docs/ablations.md."""
    lines = []
    for name, table in sorted(tables.items()):
        if not table["found"] or "noise" not in table["found"]:
            continue
        found = PublishedTable.model_validate(table["found"])
        metrics = [m for m in table["metrics"] if any(m in dict(r.published) for r in found.rows)]
        lines += [f"### {name}", "", f"{found.source}; {found.seeds} seeds here.", ""]
        head = ["paper's best", "against", *(f"paper, {table['metrics'][m]}" for m in metrics)]
        head += ["here, skill (95 %)", "agreement"]
        lines += [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
        for row in found.rows:
            c, gaps = row.comparison, dict(row.published)
            here = (
                f"{difference(c.estimate, found.unit)} ({difference(c.low, found.unit)} to "
                f"{difference(c.high, found.unit)})"
            )
            said = dict(row.agreement)
            one = (
                next(iter(said.values()), "-")
                if len(set(said.values())) < 2
                else ", ".join(f"{word} ({metric})" for metric, word in said.items())
            )
            cells = [c.design, c.other]
            cells += [f"{gaps[m]:+.2f}" if m in gaps else "-" for m in metrics]
            lines.append(f"| {' | '.join([*cells, here, one])} |")
        lines += ["", *(f"{line[0].upper()}{line[1:]}." for line in table_sentences(found)[:1]), ""]
        lines += [f"{label}: left out, {why}." for label, why in table["left_out"]]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", nargs="+", default=TABLES)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--storage", default="sqlite:///runs/ablation_tables.db")
    parser.add_argument("--out", type=Path, default=RESULTS / "ablation_tables.json")
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    known = json.loads(args.out.read_text())["tables"] if args.out.exists() else {}
    if args.markdown:
        print(markdown(known))
        return
    recipe = args.out.with_suffix(".recipe.yaml")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_text(RECIPE.to_yaml(), encoding="utf-8")
    Path("runs").mkdir(exist_ok=True)
    for name in args.tables:
        whole = train(name, args.seeds, args.storage, recipe)
        written = {"budget": BUDGET, "recipe": RECIPE.to_dict()}
        written["tables"] = known | collect(args.storage)
        args.out.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
        if not whole:
            break
    recipe.unlink()


if __name__ == "__main__":
    main()
