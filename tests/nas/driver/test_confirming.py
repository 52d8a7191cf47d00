"""The end of a search: who trains again, with which seeds, and what is said of it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from doubles import CONDITIONAL, FakeProxy, new_study, settings

from backbones import cost as cost_of
from backbones import load_config
from backbones.config import BackboneConfig
from nas.driver.clock import SystemClock
from nas.driver.confirming import choose_entrants
from nas.driver.progress import Confirming, Judged
from nas.driver.running import run
from nas.driver.studies import open_study
from nas.errors import StudyError
from nas.evidence.verdict import Verdict
from nas.executors.inline import InlineExecutor
from nas.export.trials import chosen_trial
from nas.store import confirmations, queries
from nas.store.confirmations import Searched
from nas.store.tables import Run
from nas.study.confirmation import Confirmation, parse_confirmation
from nas.study.recipe import Recipe
from nas.training.scaling import network_of
from search_spaces.fit import Band, fit_widths

ROOT = Path(__file__).resolve().parents[3]
DRIVER = Path(__file__).with_name("crashing_driver.py")
ASKED = Confirmation(finalists=3, seeds=3)
NOISE = 0.01


def study_of(url, asked=ASKED, trials=5, **changes):
    made = settings(CONDITIONAL, trials=trials, warm_start="presets", **changes)
    return new_study(url, made, confirmation=asked, clock=SystemClock())


def finish(study, proxy=None):
    heard = []
    run(study, InlineExecutor(proxy or FakeProxy(noise=NOISE)), heard.append)
    return heard


def rows_of(study):
    return study.store.read(lambda s: confirmations.trained(s, study.id))


def verdict_of(url):
    return Verdict.model_validate(queries.summary("s", url)["verdict"])


def test_finalists_and_baselines_train_again_with_fresh_common_seeds(url):
    study = study_of(url)
    heard = finish(study)
    begun = next(e for e in heard if isinstance(e, Confirming))
    assert len(begun.names) == 4 and begun.names[-1] == "mambaout_femto"
    rows = rows_of(study)
    seeds = {row.seed_index: row.seed for row in rows}
    assert len(rows) == 12 and {1, 2, 3} <= set(seeds) <= set(range(1, 7))
    assert len(set(seeds.values())) == len(seeds)
    assert all(row.seed == seeds[row.seed_index] for row in rows)
    searched = study.store.read(lambda s: confirmations.searched(s, study.id))
    assert {found.run.seed for found in searched}.isdisjoint(seeds.values())
    assert {row.split for row in rows} == {"test"}
    assert {found.run.split for found in searched} == {"val"}


def test_verdict_is_stored_and_its_choice_is_the_best_to_export(url):
    study = study_of(url)
    heard = finish(study)
    verdict = verdict_of(url)
    assert next(e for e in heard if isinstance(e, Judged)).chosen == verdict.chosen
    assert [c.name for c in verdict.contenders if c.role == "baseline"] == ["mambaout_femto"]
    summary = queries.summary("s", url)
    entrant = next(e for e in summary["confirmation"]["entrants"] if e["name"] == verdict.chosen)
    assert chosen_trial(summary) == entrant["trial"]


def test_clear_winner_is_called_better(sqlite_url):
    finish(study_of(sqlite_url), FakeProxy(noise=1e-4))
    against = verdict_of(sqlite_url).comparisons[0]
    assert against.other == "mambaout_femto" and against.word in ("better", "worse")
    assert against.low < against.estimate < against.high


def searched_as(trial, score, params):
    row = Run(role="candidate", trial_number=trial, score=score, state="complete")
    row.fingerprint = str(trial)
    return Searched(row, params, {})


def test_candidates_that_are_one_network_to_the_proxy_are_confirmed_once():
    ended = [searched_as(1, 0.8, 30), searched_as(2, 0.8, 20), searched_as(3, 0.7, 10)]
    nets = {1: "a", 2: "a", 3: "b"}
    chosen = choose_entrants(ASKED, ended, None, lambda one: nets[one.run.trial_number])
    assert [e.name for e in chosen.entrants] == ["trial 2", "trial 3"]
    ((name, why),) = chosen.not_represented
    assert name == "trial 1" and "same network as trial 2" in why


def test_depths_that_round_to_one_are_one_network_to_the_proxy():
    """Half of three blocks is two, and half of four; widths fit either to the same cost."""
    recipe = Recipe(dataset="digits")
    known = load_config("mambaout_femto")

    def with_depths(*depths):
        stages = [stage | {"depth": n} for stage, n in zip(known.to_dict()["stages"], depths)]
        return BackboneConfig.model_validate(known.to_dict() | {"stages": stages})

    cost = cost_of(known).flops
    twin = fit_widths(with_depths(4, 4, 10, 4), [Band("flops", 0.998 * cost, 1.002 * cost)])
    assert twin.fingerprint() != known.fingerprint()
    assert network_of(twin, recipe) == network_of(known, recipe)
    assert network_of(with_depths(3, 3, 5, 3), recipe) != network_of(known, recipe)


def test_study_without_confirmation_ends_with_the_search(sqlite_url):
    study = study_of(sqlite_url, asked=None)
    finish(study)
    assert rows_of(study) == [] and queries.summary("s", sqlite_url)["verdict"] is None


def test_confirmation_asked_for_later_trains_nothing_else(sqlite_url):
    study = study_of(sqlite_url, asked=None)
    finish(study)
    before = len(study.store.read(lambda s: confirmations.searched(s, study.id)))
    study.confirm(Confirmation(finalists=2, seeds=2))
    finish(study)
    assert len(rows_of(study)) == 6
    assert len(study.store.read(lambda s: confirmations.searched(s, study.id))) == before


def test_more_seeds_keep_the_runs_there_are(sqlite_url):
    study = study_of(sqlite_url, asked=Confirmation(finalists=2, seeds=2))
    finish(study)
    first = {row.id for row in rows_of(study)}
    study.confirm(Confirmation(finalists=2, seeds=4))
    finish(study)
    rows = rows_of(study)
    assert first < {row.id for row in rows}
    assert len({(row.fingerprint, row.seed_index) for row in rows}) == len(rows)
    verdict = verdict_of(sqlite_url)
    assert verdict.seeds >= 4 and verdict.level == 0.975, "the second look at the same seeds"


def test_asking_for_the_same_confirmation_again_changes_nothing(sqlite_url):
    study = study_of(sqlite_url)
    finish(study)
    before = queries.summary("s", sqlite_url)
    study.confirm(ASKED)
    assert queries.summary("s", sqlite_url) == before


def test_more_candidates_choose_finalists_anew(sqlite_url):
    study = study_of(sqlite_url)
    finish(study)
    study.want(8)
    held = study.store.read(lambda s: confirmations.read(s, study.id))
    assert held == ASKED.model_copy(update={"looks": 2})
    assert queries.summary("s", sqlite_url)["verdict"] is None
    finish(study)
    assert queries.summary("s", sqlite_url)["verdict"] is not None


def test_baseline_that_learned_nothing_is_named_and_not_compared(sqlite_url):
    study = study_of(sqlite_url)
    finish(study, Unlearned(noise=NOISE))
    verdict = verdict_of(sqlite_url)
    ((name, why),) = verdict.not_represented
    assert name == "mambaout_femto" and "learned next to nothing" in why
    assert all(c.role == "candidate" for c in verdict.contenders)


class Unlearned(FakeProxy):
    """The baseline, which trains first, scores what a guess would."""

    def __call__(self, config, recipe, **facts):
        from dataclasses import replace

        done = super().__call__(config, recipe, **facts)
        first = self.calls[0][0] == config.fingerprint()
        return replace(done, top1=0.1 if first else 0.9, chance=0.1)


def test_design_whose_confirmation_fails_is_never_chosen(sqlite_url):
    study = study_of(sqlite_url)
    finish(study, Fragile(noise=NOISE))
    verdict = verdict_of(sqlite_url)
    failed = [c for c in verdict.contenders if c.failed]
    assert failed and verdict.chosen not in {c.name for c in failed}


class Fragile(FakeProxy):
    """The first design that is scored on the test split diverges there."""

    def __call__(self, config, recipe, **facts):
        from nas.study.outcomes import NanLoss

        if facts.get("split") == "test":
            self.victim = getattr(self, "victim", config.fingerprint())
            if self.victim == config.fingerprint():
                raise NanLoss("loss is nan in epoch 1, step 1")
        return super().__call__(config, recipe, **facts)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("5x1", "one seed tells nothing of noise; take 2 or more, e.g. 5x3"),
        ("yes", "none of auto, none and FINALISTSxSEEDS, e.g. 5x5"),
        ("0x3", "none of auto"),
    ],
)
def test_bad_confirmation_names_value_rule_and_remedy(text, said):
    with pytest.raises(StudyError, match=said) as error:
        parse_confirmation(text)
    assert repr(text) in str(error.value)


def test_confirmation_is_read_as_written():
    assert parse_confirmation("none") is None
    assert parse_confirmation("5x4") == Confirmation(finalists=5, seeds=4)
    assert parse_confirmation("auto") == Confirmation(finalists=3, seeds=3)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('whole')}/nas.db"
    finish(study_of(url))
    return queries.summary("s", url)["verdict"]


@pytest.mark.chaos
@pytest.mark.parametrize("epoch", range(19, 47, 3))
def test_killed_confirmation_comes_to_the_same_verdict(sqlite_url, tmp_path, epoch, uninterrupted):
    """18 epochs are the search, 30 more the confirmation, which drops one finalist."""
    study_of(sqlite_url).close()
    log = tmp_path / "epochs.log"
    code = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        f"sys.path[:0] = [{str(ROOT)!r}, {str(DRIVER.parents[1])!r}]\n"
        "from doubles import FakeProxy\n"
        "from nas.driver.running import run\nfrom nas.driver.studies import open_study\n"
        "from nas.driver.progress import EpochDone\n"
        "from nas.executors.inline import InlineExecutor\n"
        "seen = 0\n"
        "def heard(event):\n"
        "    global seen\n"
        "    seen += isinstance(event, EpochDone)\n"
        f"    if seen == {epoch}: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"proxy = FakeProxy(noise={NOISE}, log=Path({str(log)!r}))\n"
        f"run(open_study('s', {sqlite_url!r}), InlineExecutor(proxy), heard)\n"
    )
    died = subprocess.run([sys.executable, "-c", code], cwd=ROOT)
    assert died.returncode == -signal.SIGKILL
    study = open_study("s", sqlite_url, clock=SystemClock())
    finish(study, FakeProxy(noise=NOISE, log=log))
    assert queries.summary("s", sqlite_url)["verdict"] == uninterrupted
    lines = log.read_text().splitlines()
    assert len(lines) == len(set(lines)), "an epoch was trained twice"
    rows = rows_of(study)
    assert len({(row.fingerprint, row.seed_index) for row in rows}) == len(rows)
    assert {row.state for row in rows} == {"complete"}


def test_summary_ends_with_the_verdict_and_the_command_for_more_power(sqlite_url):
    from nas.report.studies import findings, verdict

    finish(study_of(sqlite_url, asked=Confirmation(finalists=2, seeds=2)), Alike())
    summary = queries.summary("s", sqlite_url)
    lines = [text.plain for text in findings(summary)]
    assert lines[-1].startswith("for more power: ")
    again = parse_confirmation(lines[-1].rsplit(" ", 1)[1])
    assert again is not None and again.finalists == 2 and again.seeds > 2
    assert verdict(summary).plain.startswith("the search did not beat the published designs")


class Alike(FakeProxy):
    """All designs are equally good; their scores differ by noise."""

    def __call__(self, config, recipe, **facts):
        from dataclasses import replace
        from random import Random

        done = super().__call__(config, recipe, **facts)
        drawn = Random(f"{config.fingerprint()}/{facts['seed']}").gauss(0.5, 0.02)
        return replace(done, score=drawn)


def test_best_trial_of_optunas_copy_is_one_of_the_search(sqlite_url):
    import optuna

    study = study_of(sqlite_url)
    finish(study)
    copied = optuna.load_study(study_name="s", storage=sqlite_url)
    trained = {row.trial_number for row in rows_of(study)}
    assert trained <= {t.number for t in copied.trials} and copied.best_trial.number not in trained
