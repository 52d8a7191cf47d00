"""What a network answers on a split, image by image, and what that is worth, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import bootstrap
from statsmodels.stats.proportion import proportion_confint
from torch import Tensor, nn

from nas.errors import TrainingError
from nas.full_training.processes import Team
from nas.training.data.draws import IGNORE
from nas.training.tasks.dense import Dense

CONFIDENCE = 0.95
_RESAMPLES = 1000
_FIRST = 5

# Per image: its sums by name.
Answers = dict[str, np.ndarray]
Judge = Callable[[Tensor, Tensor], Answers]


@dataclass(frozen=True)
class Score:
    """A share in 0..1 with its 95 % interval over images; without, of a mean that has none."""

    value: float
    low: float | None = None
    high: float | None = None


def classes_judged(logits: Tensor, labels: Tensor) -> Answers:
    """Return loss, and whether the first and the first five answers hold the class.

    Shapes: logits (B, classes), labels (B,) -> (B,) each.
    """
    first = logits.topk(min(_FIRST, logits.shape[1]), dim=1).indices == labels[:, None]
    return {
        "loss": F.cross_entropy(logits, labels, reduction="none").double().cpu().numpy(),
        "top1": first[:, 0].cpu().numpy(),
        "top5": first.any(1).cpu().numpy(),
    }


def tokens_judged(task: Dense) -> Judge:
    """Return a judge of tokens: per image and label, sums over tokens.

    Shapes: answers (B, grid, grid, outputs), labels (B, R, grid, grid) -> per class of all labels
    (B, sum of classes): both, either; per label (B, R): loss, right, known.
    """

    def judge(out: Tensor, labels: Tensor) -> Answers:
        made: dict[str, list[Tensor]] = {
            k: [] for k in ("loss", "right", "known", "both", "either")
        }
        for r, logits in enumerate(torch.split(out, task.counts, dim=-1)):
            truth, classes = labels[:, r].long().flatten(1), logits.shape[-1]
            flat, known = logits.flatten(1, 2), truth != IGNORE
            loss = F.cross_entropy(
                flat.transpose(1, 2), truth, ignore_index=IGNORE, reduction="none"
            )
            answer = torch.where(known, flat.argmax(-1), -1)
            hot = torch.arange(classes, device=out.device)
            is_truth, is_answer = truth[..., None] == hot, answer[..., None] == hot
            made["loss"].append(loss.double().sum(1))
            made["right"].append((known & (answer == truth)).sum(1))
            made["known"].append(known.sum(1))
            made["both"].append((is_truth & is_answer).sum(1))
            made["either"].append((is_truth | is_answer).sum(1))
        whole = {k: torch.cat(v, 1) for k, v in made.items() if k in ("both", "either")}
        whole |= {k: torch.stack(v, 1) for k, v in made.items() if k not in whole}
        return {k: v.cpu().numpy() for k, v in whole.items()}

    return judge


@torch.no_grad()
def answers(
    model: nn.Module,
    batches: Iterable[Any],
    judge: Judge,
    team: Team,
    *,
    bf16: bool = False,
    channels_last: bool = False,
) -> Answers:
    """Return how a network answers a split, all processes together.

    batches: this process's, of (images, labels, indices).
    """
    was_training = model.training
    model.eval()
    found: list[Answers] = []
    device = torch.device(team.device)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for images, labels, _ in batches:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            out = model(images.to(device, memory_format=layout))
        found.append(judge(out.float(), labels.to(device)))
    model.train(was_training)
    parts = [part for own in team.gathered(found) for part in own]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def class_scores(found: Answers) -> dict[str, Score]:
    """Return loss, top1 and top5, with Wilson's intervals."""
    count = len(found["top1"])
    scores = {"loss": Score(float(found["loss"].mean()))}
    for name in ("top1", "top5"):
        right = int(found[name].sum())
        low, high = proportion_confint(right, count, 1 - CONFIDENCE, method="wilson")
        scores[name] = Score(right / count, float(low), float(high))
    return scores


def token_scores(found: Answers, task: Dense, *, intervals: bool = True) -> dict[str, Score]:
    """Return loss, miou and top1, means over labels; intervals by resampling images.

    Raises: TrainingError where no token has a label.
    """
    ends = np.cumsum([0, *task.counts])
    if not found["known"].sum():
        raise TrainingError("no token of the split has a label; look at the masks")

    def miou(index: np.ndarray) -> float:
        both, either = found["both"][index].sum(0), found["either"][index].sum(0)
        share = np.divide(both, either, out=np.full(len(both), np.nan), where=either > 0)
        parts = [share[a:b] for a, b in pairwise(ends)]
        return float(np.mean([np.nanmean(p) for p in parts if not np.isnan(p).all()]))

    def top1(index: np.ndarray) -> float:
        right, known = found["right"][index].sum(0), found["known"][index].sum(0)
        return float(np.mean(right[known > 0] / known[known > 0]))

    every = np.arange(len(found["known"]))
    loss = found["loss"].sum(0)[found["known"].sum(0) > 0]
    known = found["known"].sum(0)
    scores = {"loss": Score(float(np.mean(loss / known[known > 0])))}
    for name, statistic in (("miou", miou), ("top1", top1)):
        if not intervals or len(every) < 2:
            scores[name] = Score(statistic(every))
            continue
        drawn = bootstrap(
            (every,),
            statistic,
            vectorized=False,
            n_resamples=_RESAMPLES,
            method="percentile",
            confidence_level=CONFIDENCE,
            rng=np.random.default_rng(0),
        ).confidence_interval
        scores[name] = Score(statistic(every), float(drawn.low), float(drawn.high))
    return scores
