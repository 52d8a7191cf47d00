"""Questions beside a search are asked from Python as from the command line."""

import pytest
from doubles import CONDITIONAL, GRID, FakeProxy, new_study, settings

import nas
from nas.driver.clock import SystemClock
from nas.driver.running import run
from nas.errors import StudyError
from nas.executors import choice
from nas.executors.inline import InlineExecutor

ASKED = {"choice": "scan", "levels": ["raster", "cross"], "controls": False, "seeds": 3}


@pytest.fixture
def proxy(monkeypatch):
    """What trains, in place of a training."""
    fake = FakeProxy(noise=0.001)
    monkeypatch.setattr(choice, "choose_executor", lambda *_, **__: InlineExecutor(fake))
    return fake


def test_ablation_answers_and_goes_on_where_it_was(sqlite_url, tmp_path, proxy, capsys):
    (tmp_path / "space.yaml").write_text(CONDITIONAL.replace("pattern: g", "pattern: s"))
    asked = ASKED | {"space": str(tmp_path / "space.yaml"), "recipe": settings().recipe}
    asked |= {"budget": "80MFLOPs", "storage": sqlite_url, "device": "cpu", "plain": True}
    answer = nas.ablate(**asked)
    assert answer.done and answer.found.choice == "scan"
    assert {answer.found.best, answer.found.comparisons[0].other} == {"raster", "cross"}
    assert answer.sentences[0].startswith("scan")
    assert "candidates wanted" not in capsys.readouterr().out  # there are none
    trained = len(proxy.calls)
    assert nas.ablate(**asked).found == answer.found
    assert len(proxy.calls) == trained
    assert nas.Study.open(answer.study.name, sqlite_url).summary()["comparisons"]


def test_fidelity_and_effects_of_a_study(sqlite_url, proxy):
    made = new_study(sqlite_url, settings(GRID, trials=10), clock=SystemClock())
    run(made, InlineExecutor(proxy))
    made.close()
    study = nas.Study.open("s", sqlite_url)
    answer = nas.fidelity(study, designs=6, times=[4.0], plain=True)
    (longer,) = answer.found.longer
    assert answer.done and longer.times_longer == 4.0
    assert answer.sentences
    found = nas.analyze(study)
    assert (found["study"], found["runs"]) == ("s", 10)
    assert {factor["factor"] for factor in found["factors"]} <= {"expand", "kernel"}


def test_questions_that_compare_nothing_are_refused(sqlite_url):
    with pytest.raises(StudyError, match=r"give --choice .* or --table"):
        nas.ablate("vmamba_tiny_s1l8", storage=sqlite_url)
    with pytest.raises(StudyError, match="brings its own designs"):
        nas.ablate("vmamba_tiny_s1l8", table="vmamba_scan", storage=sqlite_url)
    with pytest.raises(StudyError, match="unknown option 'worker'"):
        nas.ablate("vmamba_tiny_s1l8", choice="scan", worker=2)
