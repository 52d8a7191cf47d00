"""docs/ten_spaces.md: each space is small, loads, and is searched by the command under it."""

import json
import sys

import pytest
import yaml
from pages import ROOT, blocks

from nas import Study
from nas.commands.main import main
from nas.export import document
from nas.planning import timing
from nas.planning.meters import times_on
from search_spaces import SearchSpace

PAGE = blocks(ROOT / "docs" / "ten_spaces.md")
SPACES = {yaml.safe_load(b.text)["name"]: b for b in PAGE if b.language == "yaml"}
COMMANDS = {c[c.index("--space") + 1]: c for b in PAGE for c in b.commands if "--space" in c}
TWO_SECONDS = """
schema: 1
dataset: digits
train_size: 32
val_size: 32
image_size: 16
stem_stride: 2
flops_ratio: 2.0e-5
depth_ratio: 0.2
epochs: 1
threads: 1
"""
LATENCY_MS = 300
SMALL = "--trials 3 --warm-start none --confirm none --executor inline --device cpu --plain"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where all ten are searched, in one database."""
    place = tmp_path_factory.mktemp("ten")
    (place / "two_seconds.yaml").write_text(TWO_SECONDS)
    for name, block in SPACES.items():
        (place / f"{name}.yaml").write_text(block.text)
    return place


def test_there_are_ten_and_each_has_its_command():
    assert len(SPACES) == 10
    assert set(COMMANDS) == {f"{name}.yaml" for name in SPACES}


@pytest.mark.parametrize("name", SPACES)
def test_a_space_is_short(name):
    assert len(SPACES[name].text.splitlines()) < 25


def test_the_last_k_blocks_are_attention_in_under_ten_lines():
    assert len(SPACES["last_attention"].text.splitlines()) < 10
    space = SearchSpace.from_text(SPACES["last_attention"].text)
    words = [
        "".join("t" if config.blocks[x].mixer.kind == "attention" else "s"
                for stage in config.stages for x in stage.letters)
        for config in (space.build(point) for point in space.solver.points())
    ]  # fmt: skip
    assert sorted(words) == sorted("s" * (14 - k) + "t" * k for k in range(5))


@pytest.fixture
def timed(monkeypatch):
    """The pieces that were timed: by their tokens and widths in place of a clock."""
    asked = []

    def time(piece, on):
        asked.append((piece.key, on.device))
        return 4e-5 * piece.grid[0] * piece.grid[1] * piece.widths[-1]

    monkeypatch.setattr(timing, "time_of", time)
    times_on.cache_clear()
    yield asked
    times_on.cache_clear()


@pytest.mark.parametrize("name", SPACES)
def test_a_space_is_searched(name, folder, timed, monkeypatch, capsys):
    # A fresh interpreter traces the exported design at full size: tests/nas/export/test_export.py.
    monkeypatch.setattr(document, "verify_export", lambda path: None)
    monkeypatch.chdir(folder)
    command = [*COMMANDS[f"{name}.yaml"], "--recipe", "two_seconds.yaml", *SMALL.split()]
    monkeypatch.setattr(sys, "argv", ["cli.py", *command])
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, capsys.readouterr().err
    rows = Study.open(command[command.index("--study") + 1]).frame()
    assert list(rows["state"]) == ["complete"] * 3, json.dumps(rows.to_dict(), default=str)
    if "--latency-device" not in command:
        assert not timed
        return
    assert {device for _, device in timed} == {"cpu"}
    assert rows["latency_ms"].between(0.95 * LATENCY_MS, LATENCY_MS).all(), rows["latency_ms"]
