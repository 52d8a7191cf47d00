"""How long a report of thousands of trials takes to open, and how large it is.

    python benchmarks/report_page.py [--trials 5000] [--runs 5]

A study of the quadtree space is made up, its trials repeated to the number asked for, the page
written and opened in a headless Chromium (the system's). Opened: from the navigation until the
figures in view are drawn and the page is idle. Busy: processor seconds of the page's
main thread until then, which other programs on the machine do not change.
Bars: 2 s on a quiet machine with 2 cores, 6 MB.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from playwright.sync_api import Browser, sync_playwright  # noqa: E402

from backbones import cost  # noqa: E402
from nas.evidence.reliability import load_measurements  # noqa: E402
from nas.report.html.facts import Facts  # noqa: E402
from nas.report.html.page import render  # noqa: E402
from nas.study.recipe import default_recipe  # noqa: E402
from search_spaces import SearchSpace  # noqa: E402

BAR_S, BAR_BYTES = 2.0, 6_000_000
DRAWN = """() => new Promise((done) => {
  const seen = () => [...document.querySelectorAll('.canvas')].filter(
    (figure) => figure.getBoundingClientRect().top < innerHeight);
  const drawn = (figure) => figure.querySelector('.main-svg .legend') !== null;
  const look = () => seen().length && seen().every(drawn)
    ? requestIdleCallback(() => done(performance.now() / 1000)) : setTimeout(look, 10);
  look();
})"""


def made_up(trials: int, distinct: int = 200) -> Facts:
    """Return a scored study whose designs are drawn from the quadtree space."""
    space, rng = SearchSpace.load("quadtree"), np.random.default_rng(0)
    rows, config = [], None
    for _ in range(distinct):
        choices = space.sample(rng)
        config = space.build(choices)
        counted = cost(config)
        rows.append({"choices": choices, "flops": counted.flops, "params": counted.params})
    many = [
        {
            **rows[number % distinct], "trial": number, "label": None, "kind": "mutation",
            "state": "complete", "score": float(rng.beta(8, 3)), "seconds": 20.0, "error": None,
            "learned": True, "latency_ms": None, "fingerprint": f"{number:064x}",
        }
        for number in range(trials)
    ]  # fmt: skip
    best = max(many, key=lambda row: row["score"])
    winner = best | {
        "config": config.to_dict(), "image_size": 224, "convention": "fvcore", "environment": {},
    }  # fmt: skip
    study = {
        "study": "made-up", "space": "quadtree", "space_version": "2", "budget": ["4.5GFLOPs"],
        "trials": trials, "seed": 0, "strategy": "evolution", "objectives": ["top1"],
        "image_size": 224, "warm_start": "none", "pruner": "none", "device": "cpu",
        "backend": "auto", "recipe": default_recipe("cpu", None, None).to_dict(),
        "counts": {"complete": trials},
    }  # fmt: skip
    return Facts(
        study=study, trials=many, leaders=many[:20], baselines=[],
        pareto={"flops": [best], "params": [best], "latency_ms": []}, winner=winner,
        reliability=load_measurements().measured[0], effects=None, state="scored", said="",
        verdict="", findings=[], asked=None, confirmed=None, cautions=[],
    )  # fmt: skip


def open_page(browser: Browser, page_file: Path) -> tuple[float, float]:
    """Return the seconds until the page is drawn and idle, and of processor time."""
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    meter = page.context.new_cdp_session(page)
    meter.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(page_file.as_uri(), wait_until="commit")
    seconds = page.evaluate(DRAWN)
    metrics = {m["name"]: m["value"] for m in meter.send("Performance.getMetrics")["metrics"]}
    page.close()
    return seconds, metrics["TaskDuration"]


def main() -> None:
    """Print the figures; exit with 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no chromium or google-chrome is installed")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "report.html"
        path.write_text(render(made_up(options.trials), "made up"))
        size = path.stat().st_size
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        runs = [open_page(browser, path) for _ in range(options.runs)]
        browser.close()
    opened, busy = (median(column) for column in zip(*runs))
    print(f"{options.trials} trials: {size / 1e6:.2f} MB (bar {BAR_BYTES / 1e6:.0f})")
    print(f"opened in {opened:.2f} s (bar {BAR_S}), {busy:.2f} s of it busy")
    print(f"medians of {options.runs} runs")
    sys.exit(int(size > BAR_BYTES or opened > BAR_S))


if __name__ == "__main__":
    main()
