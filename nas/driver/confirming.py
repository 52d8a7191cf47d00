"""The end of a search: its best candidates and the baselines train again, with fresh seeds.

What is next is read off the rows each time, so that any driver goes on where another one was
killed, and comes to the same verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from backbones.config import BackboneConfig
from nas.driver import again
from nas.driver.access import Access, Done, Wait
from nas.driver.progress import Confirming as ConfirmingBegins
from nas.driver.progress import Judged, Notice
from nas.driver.proposing import Proposing
from nas.errors import StudyError
from nas.evidence.confirmation import judge
from nas.evidence.finalists import Noise, choose_finalists, noise_of
from nas.evidence.paired import Design, Scores
from nas.evidence.racing import plan
from nas.store import confirmations
from nas.store.confirmations import Searched
from nas.store.queries import learned
from nas.store.tables import Architecture, Run
from nas.study.confirmation import SPLIT, Confirmation, Entrant
from nas.study.outcomes import Outcome
from nas.study.proposals import BASELINE, CONFIRMATION
from nas.study.tasks import metric_of
from nas.training.scaling import network_of


class Confirming:
    """Writes one driver's trainings of a study's confirmation."""

    def __init__(self, access: Access, proposing: Proposing) -> None:
        self.access, self.proposing = access, proposing
        self._said: Confirmation | None = None

    def propose(self, searched: Done) -> tuple[Run, Architecture] | Wait | Done:
        """Write the next training, or return what the search said when it was done.

        Raises: StudyError for scores that no verdict can be made of.
        """
        while True:
            asked = self.access.store.read(lambda s: confirmations.read(s, self.access.study_id))
            if asked is None:
                return searched
            chosen = asked if asked.entrants else self._choose(asked)
            if not chosen.entrants:
                return searched
            if len(chosen.entrants) == 1:
                self._say(chosen, Notice("nothing to confirm: one design has nothing beside it"))
                return searched
            begins = ConfirmingBegins(
                tuple(e.name for e in chosen.entrants), chosen.seeds, chosen.left_out
            )
            self._say(chosen, begins)
            answer = self._next(chosen)
            if answer is not None:
                return searched if isinstance(answer, Done) else answer

    def _say(self, chosen: Confirmation, event: Notice | ConfirmingBegins) -> None:
        if self._said != chosen:
            self.access.progress(event)
            self._said = chosen

    def _choose(self, asked: Confirmation) -> Confirmation:
        access = self.access
        ended = access.store.read(lambda s: confirmations.searched(s, access.study_id))
        recipe = access.settings.recipe

        def network(found: Searched) -> str:
            return network_of(BackboneConfig.model_validate(found.config), recipe)

        chosen = choose_entrants(asked, ended, noise_of(recipe), network)
        if not chosen.entrants:
            return chosen
        return access.store.write(
            lambda s: confirmations.choose(s, access.study_id, chosen), durable=True
        )

    def _next(self, chosen: Confirmation) -> tuple[Run, Architecture] | Wait | Done | None:
        """Return the next training; None when another driver was faster."""
        access = self.access
        runs = access.store.read(lambda s: confirmations.trained(s, access.study_id))
        trials = [e.trial for e in chosen.entrants]
        designs = access.store.read(lambda s: confirmations.designs(s, access.study_id, trials))
        table, started = again.scores_of(
            [
                Design(
                    name=e.name,
                    role=e.role,
                    params=designs[e.trial].params,
                    outside="timm" in designs[e.trial].config,
                )
                for e in chosen.entrants
            ],
            {e.fingerprint: e.name for e in chosen.entrants},
            chosen.seed_indices,
            runs,
        )
        total = len(chosen.entrants) * chosen.seeds
        step = plan(table, seeds=chosen.seed_indices, runs=total)
        for name, index in step.runs:
            if (name, index) not in started:
                entrant = next(e for e in chosen.entrants if e.name == name)
                return again.write(
                    access,
                    self.proposing,
                    designs[entrant.trial],
                    role=CONFIRMATION,
                    kind=entrant.role,
                    label=name,
                    index=index,
                    split=SPLIT,
                )
        if step.runs:
            return Wait(f"{len(step.runs)} trainings of the confirmation are still running")
        self._conclude(chosen, table, step.dropped)
        return Done("confirmed", complete=True)

    def _conclude(self, chosen: Confirmation, table: Scores, dropped: tuple[str, ...]) -> None:
        access = self.access
        try:
            verdict = judge(
                table,
                unit=metric_of(access.settings.recipe.to_dict()).unit,
                split=SPLIT,
                dropped=dropped,
                not_represented=chosen.not_represented,
                level=chosen.level,
            )
        except StudyError as error:
            access.progress(Notice(f"no verdict: {error}"))
            return
        data = verdict.model_dump(mode="json", by_alias=True)
        access.store.write(
            partial(
                confirmations.set_verdict, study_id=access.study_id, judged=chosen, verdict=data
            ),
            durable=True,
        )
        access.progress(Judged(verdict.leader, verdict.chosen))


def choose_entrants(
    asked: Confirmation,
    ended: list[Searched],
    noise: Noise | None,
    network: Callable[[Searched], str],
) -> Confirmation:
    """Return the confirmation with its entrants: finalists by their scores, all baselines.

    noise: of one run, as far as it is known; without it the best scores go on. network: what the
    proxy trains for a design; of candidates that are one network to it, which no number of seeds
    tells apart, the cheapest stands for all.
    """
    candidates: dict[str, Searched] = {}
    baselines: list[Entrant] = []
    missing: list[tuple[str, str]] = []
    for found in ended:
        run = found.run
        assert run.trial_number is not None
        if run.role == BASELINE:
            name = run.label or f"trial {run.trial_number}"
            if (why := _not_comparable(run)) is not None:
                missing.append((name, why))
                continue
            baselines.append(_entrant(name, run))
        elif run.state == Outcome.COMPLETE.value and run.score is not None:
            candidates[f"trial {run.trial_number}"] = found
    if not candidates:
        return asked
    twins = _twins(candidates, network)
    for name in twins:
        del candidates[name]
    scores = {name: found.run.score or 0.0 for name, found in candidates.items()}
    costs = [Design(name=name, params=found.params) for name, found in candidates.items()]
    unknown = Noise(sd=max(scores.values()) - min(scores.values()), df=1.0)
    finalists = choose_finalists(scores, noise or unknown, asked.finalists, designs=costs)
    return asked.model_copy(
        update={
            "entrants": (
                *(_entrant(name, candidates[name].run) for name in finalists.names),
                *baselines,
            ),
            "not_represented": (*missing, *_said_of(twins, finalists.names)),
            "left_out": finalists.left_out if noise is not None else 0,
        }
    )


def _twins(candidates: dict[str, Searched], network: Callable[[Searched], str]) -> dict[str, str]:
    """Return candidates that are to the proxy what a cheaper one is, with that one's name."""
    first: dict[str, str] = {}
    twins = {}
    for name in sorted(candidates, key=lambda n: candidates[n].params):
        seen = first.setdefault(network(candidates[name]), name)
        if seen != name:
            twins[name] = seen
    return twins


def _said_of(twins: dict[str, str], finalists: tuple[str, ...]) -> list[tuple[str, str]]:
    return [
        (name, f"to the proxy it is the same network as {other}, which costs no more")
        for name, other in twins.items()
        if other in finalists
    ]


def _entrant(name: str, run: Run) -> Entrant:
    assert run.trial_number is not None
    role = "baseline" if run.role == BASELINE else "candidate"
    return Entrant(name=name, role=role, trial=run.trial_number, fingerprint=run.fingerprint)


def _not_comparable(run: Run) -> str | None:
    """Say why a baseline says nothing here: it failed, or learned next to nothing."""
    if run.state != Outcome.COMPLETE.value:
        return f"its run of the search ended as {run.state}"
    metrics = run.metrics or {}
    if not learned(metrics):
        top1, chance = metrics.get("top1", 1.0), metrics["chance"]
        return f"it learned next to nothing in a run so short ({top1:.1%}, a guess {chance:.1%})"
    return None
