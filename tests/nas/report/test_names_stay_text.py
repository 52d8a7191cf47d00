"""Names that a user or a data set chose are text, wherever people look at a study."""

import re

import numpy as np
import pytest
import yaml
from doubles import CONDITIONAL, FakeProxy, new_study, settings
from PIL import Image

from backbones.config import BackboneConfig
from nas.driver.enqueueing import Wish, enqueue
from nas.driver.running import run
from nas.executors.inline import InlineExecutor
from nas.report.dashboard.shown import Shown
from nas.report.html.facts import gather
from nas.report.html.page import render
from nas.study.recipe import Recipe

SCRIPT, IMAGE = "<script>window.hacked=1<script>", "<img src=x onerror=window.hacked=1>"
UNESCAPED = re.compile(r"(?<!\\)<")  # in Markdown


def classes(folder):
    """Write a data set whose folder and both classes are markup."""
    draws = np.random.default_rng(0)
    for name in (SCRIPT, IMAGE):
        (folder / "<b>" / name).mkdir(parents=True)
        for n in range(24):
            pixels = draws.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "<b>" / name / f"{n:02}.png")
    return folder / "<b>"


def hostile_design(config):
    """Return a design of the same space under a name that is markup."""
    content = config | {"name": IMAGE}
    return BackboneConfig.model_validate(yaml.safe_load(yaml.safe_dump(content)))


@pytest.fixture
def looked_at(sqlite_url, clock, tmp_path):
    """The page and the notes of a study on such a data set, with a failure that names a file."""
    data = classes(tmp_path)
    recipe = Recipe(dataset=f"folder:{data}", image_size=16, stem_stride=2, epochs=1, threads=1)
    space = CONDITIONAL.replace("raster: raster", f"'{SCRIPT}': raster")
    study = new_study(sqlite_url, settings(space, recipe=recipe, trials=3), clock=clock)
    first = study.settings.space.build({**POINT, "scan": SCRIPT}, study.settings.budget.bands)
    enqueue(study, [Wish(SCRIPT, hostile_design(first.to_dict()))])
    run(study, InlineExecutor())  # trains: the data set is read
    file = data / SCRIPT / "00.png"
    study.want(5)
    run(study, InlineExecutor(FakeProxy(raises=failing_once_and_for_all(f"{file} is odd"))))
    study.close()
    return render(gather("s", sqlite_url), "x"), Shown("s", sqlite_url), str(file)


def failing_once_and_for_all(said):
    """One design fails wherever it is tried; what it is checked with does not."""
    chosen = []

    def raises(call, fingerprint, recipe):
        chosen[:] = chosen or [fingerprint]
        return ValueError(said) if fingerprint in chosen else None

    return raises


POINT = {"depth": 2, "mixer": "s", "kernel": 7, "expand": 2.0, "d_state": 1}


def test_class_folders_and_designs_that_are_markup_stay_text(looked_at):
    page, notes, file = looked_at
    assert SCRIPT not in page and IMAGE not in page
    assert page.count("<script") == 3  # the data, the figures' library, the page's own
    escaped = file.replace("<", "&lt;").replace(">", "&gt;")
    assert f"ValueError: {escaped} is odd" in page
    said = [notes.note, *notes.notes.values()]
    assert any("window.hacked" in note for note in said)
    assert not [note for note in said if UNESCAPED.search(note)]
