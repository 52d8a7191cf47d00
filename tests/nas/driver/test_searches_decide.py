"""Whole searches over a fake evaluation come to what the decision functions say of its scores."""

import pytest
from doubles import CONDITIONAL, FakeProxy, new_study, settings

from backbones.config import BackboneConfig
from nas.driver.clock import SystemClock
from nas.driver.confirming import choose_entrants
from nas.driver.running import run
from nas.evidence.confirmation import judge
from nas.evidence.finalists import noise_of
from nas.evidence.paired import Design, Scores
from nas.evidence.racing import plan
from nas.evidence.verdict import Verdict
from nas.executors.inline import InlineExecutor
from nas.store import confirmations, queries
from nas.study.confirmation import Confirmation
from nas.training.scaling import network_of

ASKED = Confirmation(finalists=3, seeds=3)
SEARCHES = 20


def by_hand(made, ended, proxy):
    """Decide as the functions do, asking the evaluation itself for every score."""

    def network(found):
        return network_of(BackboneConfig.model_validate(found.config), made.recipe)

    chosen = choose_entrants(ASKED, ended, noise_of(made.recipe), network)
    configs = {f.run.fingerprint: BackboneConfig.model_validate(f.config) for f in ended}
    params = {f.run.fingerprint: f.params for f in ended}
    designs = [
        Design(name=e.name, role=e.role, params=params[e.fingerprint]) for e in chosen.entrants
    ]
    configs = {e.name: configs[e.fingerprint] for e in chosen.entrants}
    runs = []
    while step := plan(
        Scores.of(designs, runs), seeds=chosen.seed_indices, runs=len(designs) * chosen.seeds
    ):
        if step.over:
            break
        for name, index in step.runs:
            seed = made.training_seed(configs[name].fingerprint(), index)
            result = proxy(
                configs[name], made.recipe, seed=seed, device="cpu", report=print, split="test"
            )
            runs.append((name, index, result.score))
    return judge(
        Scores.of(designs, runs),
        unit="percent",
        dropped=step.dropped,
        not_represented=chosen.not_represented,
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEARCHES))
def test_search_decides_as_the_functions_do(tmp_path, seed, capsys):
    made = settings(CONDITIONAL, trials=6, seed=seed, warm_start="presets")
    proxy = FakeProxy(noise=0.02 * (1 + seed % 4))
    url = f"sqlite:///{tmp_path}/nas.db"
    study = new_study(url, made, confirmation=ASKED, clock=SystemClock())
    run(study, InlineExecutor(proxy))
    said = Verdict.model_validate(queries.summary("s", url)["verdict"])
    ended = study.store.read(lambda s: confirmations.searched(s, study.id))
    expected = by_hand(made, ended, proxy)
    assert said.leader == expected.leader and said.chosen == expected.chosen
    assert {c.name for c in said.contenders} == {c.name for c in expected.contenders}
    for mine, theirs in zip(said.comparisons, expected.comparisons):
        assert (mine.other, mine.word) == (theirs.other, theirs.word)
        assert mine.estimate == pytest.approx(theirs.estimate, abs=1e-12)
        assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
