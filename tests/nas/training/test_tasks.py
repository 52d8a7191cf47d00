"""Tasks: losses and scores of answers that are known, and masks."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score, r2_score

from nas.errors import DataError
from nas.study.recipe import Recipe
from nas.study.tasks import Part
from nas.training.data.registry import LabelMap, ProxyData
from nas.training.tasks import Batch, make_task

GRID, STRIDE = 4, 4
DENSE = Recipe(task="dense", image_size=GRID * STRIDE, stem_stride=STRIDE)
HIDDEN = Recipe(task="reconstruct", image_size=GRID * STRIDE, stem_stride=STRIDE, mask_share=0.5)


def data(*counts):
    images = torch.zeros(2, 3, GRID * STRIDE, GRID * STRIDE, dtype=torch.uint8)
    labels = tuple(LabelMap(f"l{i}", tuple(map(str, range(n)))) for i, n in enumerate(counts))
    nothing = torch.zeros(2, dtype=torch.int64)
    return ProxyData(images, nothing, images, nothing, (0.0,) * 3, (1.0,) * 3, labels)


def task(recipe, *counts):
    return make_task(recipe.parts[0], data(*counts), recipe)


def dense_batch(seed=0, counts=(3, 2), ignored=0.3):
    rng = np.random.default_rng(seed)
    shape = (5, GRID, GRID)
    labels = np.stack([rng.integers(0, n, shape) for n in counts], axis=1)
    labels[rng.random(labels.shape) < ignored] = -1
    out = torch.from_numpy(rng.normal(size=(*shape, sum(counts)))).float()
    images = torch.zeros(5, 3, GRID * STRIDE, GRID * STRIDE)
    return out, Batch(images, torch.from_numpy(labels).to(torch.int16))


def test_dense_scores_are_those_of_scikit_learn():
    out, batch = dense_batch()
    tally = task(DENSE, 3, 2).tally()
    for part in (slice(2), slice(2, 5)):
        tally.add(out[part], Batch(batch.images[part], batch.labels[part]))
    scores = tally.scores()
    ious, rights, losses = [], [], []
    for i, logits in enumerate(out.split([3, 2], -1)):
        true = batch.labels[:, i].long()
        known = true >= 0
        answer, true, logits = logits.argmax(-1)[known], true[known], logits[known]
        ious.append(jaccard_score(true, answer, average="macro"))
        rights.append(float((answer == true).float().mean()))
        losses.append(float(F.cross_entropy(logits, true)))
    assert scores["miou"] == pytest.approx(np.mean(ious))
    assert scores["top1"] == pytest.approx(np.mean(rights))
    assert scores["loss"] == pytest.approx(np.mean(losses), rel=1e-6)
    assert scores["likelihood"] == pytest.approx(math.exp(-np.mean(losses)))
    assert float(task(DENSE, 3, 2).loss(out, batch)) == pytest.approx(scores["loss"], rel=1e-5)


def test_ignored_tokens_count_nowhere():
    out, batch = dense_batch()
    other = out.clone()
    gone = (batch.labels < 0).all(1)
    assert gone.any()
    other[gone] = 99.0
    made = task(DENSE, 3, 2)
    assert torch.equal(made.loss(out, batch), made.loss(other, batch))
    scores = []
    for o in (out, other):
        tally = made.tally()
        tally.add(o, batch)
        scores.append(tally.scores())
    assert scores[0] == scores[1]


def test_batch_without_a_label_has_no_loss_and_no_gradient():
    out, batch = dense_batch(ignored=2.0)
    out.requires_grad_()
    loss = task(DENSE, 3, 2).loss(out, batch)
    loss.backward()
    assert float(loss.detach()) == 0 and float(out.grad.abs().sum()) == 0


def test_skill_is_0_for_the_best_constant_answer_and_1_for_a_perfect_one():
    _, batch = dense_batch()
    made = task(DENSE, 3, 2)
    perfect = torch.cat(
        [F.one_hot(batch.labels[:, i].long().clamp(min=0), n) for i, n in enumerate((3, 2))], -1
    )
    constant = torch.zeros(5, GRID, GRID, 5)
    start = 0
    for i, n in enumerate((3, 2)):
        shown = batch.labels[:, i][batch.labels[:, i] >= 0].long()
        constant[..., start + int(torch.bincount(shown).argmax())] = 1
        start += n
    for answer, wanted in ((constant, 0), (perfect.float(), 1)):
        tally = made.tally()
        tally.add(answer, batch)
        scores = tally.scores()
        assert [scores[k] for k in ("skill", "l0", "l1")] == pytest.approx([wanted] * 3)


def reconstruct_batch(seed=0, recipe=HIDDEN):
    made = task(recipe)
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(6, 3, GRID * STRIDE, GRID * STRIDE, generator=generator)
    hidden = made.mask(torch.rand(6, made.mask_units, generator=generator))
    return made, Batch(images, torch.zeros(6), hidden)


def test_reconstruction_is_scored_by_r2_on_masked_tokens():
    made, batch = reconstruct_batch()
    out = torch.randn(6, GRID, GRID, 12, generator=torch.Generator().manual_seed(1))
    tally = made.tally()
    for part in (slice(4), slice(4, 6)):
        tally.add(out[part], Batch(batch.images[part], batch.labels[part], batch.hidden[part]))
    true = made.target(batch.images)[batch.hidden].numpy()
    wanted = r2_score(true, out[batch.hidden].numpy(), multioutput="variance_weighted")
    assert tally.scores()["skill"] == pytest.approx(wanted, rel=1e-5)
    assert float(made.loss(out, batch)) == pytest.approx(tally.scores()["loss"], rel=1e-5)
    tally = made.tally()
    tally.add(made.target(batch.images), batch)
    assert tally.scores()["skill"] == 1


def test_colors_are_means_over_quarters_of_a_token():
    made, batch = reconstruct_batch()
    target = made.target(batch.images)
    # Token (1, 2), its lower left quarter, the second channel.
    pixels = batch.images[:, 1, 6:8, 8:10].mean((1, 2))
    assert torch.allclose(target[:, 1, 2].view(6, 3, 2, 2)[:, 1, 1, 0], pixels)


def test_hidden_tokens_are_not_shown():
    made, batch = reconstruct_batch()
    shown = made.shown(batch)
    changed = Batch(
        torch.where(shown == 0, torch.randn_like(shown), batch.images), batch.labels, batch.hidden
    )
    assert torch.equal(made.shown(changed), shown)
    tokens = F.max_pool2d(shown.abs().sum(1), STRIDE) > 0
    assert torch.equal(tokens, ~batch.hidden)


@given(
    share=st.floats(0.01, 0.99),
    shape=st.sampled_from(["tokens", "blocks", "rows", "quadrants"]),
    grid=st.integers(5, 18),
    seed=st.integers(0, 99),
)
def test_mask_hides_the_share_in_whole_units_and_shows_something(share, shape, grid, seed):
    recipe = Recipe(
        task="reconstruct",
        image_size=2 * grid,
        stem_stride=2,
        mask_share=share,
        mask_shape=shape,
    )
    made = make_task(recipe.parts[0], data(), recipe)
    draws = torch.rand(3, made.mask_units, generator=torch.Generator().manual_seed(seed))
    hidden = made.mask(draws)
    assert hidden.shape == (3, grid, grid)
    down, across = Part(mask_shape=shape).mask_units(grid)
    wanted = min(max(round(share * down * across), 1), down * across - 1)
    for board in hidden:
        units = {(y * down // grid, x * across // grid) for y, x in board.nonzero().tolist()}
        assert len(units) == wanted
        assert 0 < int(board.sum()) < grid**2
    if shape == "rows":
        assert (hidden.all(2) | ~hidden.any(2)).all()


BAD = [
    ("task: reconstruct\nmask_share: 0", "mask_share 0 must lie between 0 and 1.*use e.g. 0.75"),
    ("task: reconstruct\nmask_share: 1", "mask_share 1 must lie between 0 and 1"),
    ("task: dense\nimage_size: 50", "image_size 50 is no multiple of stem_stride 4.*use 48 or 52"),
    ("also: [{task: dense}]\nimage_size: 50", "no multiple of stem_stride"),
    ("task: dense\ndensity: 0", "density 0 must lie above 0"),
    ("task: reconstruct\nscore: top1", "score top1: task reconstruct is scored by skill"),
    ("also: [{task: dense}]\nscore: top1", "score top1: several tasks are scored by skill"),
    ("task: reconstruct\nmask_shape: blocks\nimage_size: 16", "hides all of a grid of 4"),
    ("also: [{dataset: digits}]", "two tasks classify.*keep one"),
    ("task: rank", "classify.*dense.*reconstruct"),
    ("also: [{tusk: dense}]", "tusk"),
]


@pytest.mark.parametrize(("text", "said"), BAD)
def test_bad_tasks_are_refused_in_one_line(text, said):
    with pytest.raises(DataError, match=said) as caught:
        Recipe.from_yaml(f"schema: 1\n{text}\n")
    assert "\n" not in str(caught.value)


def test_task_brings_its_data_set_and_score():
    assert (Recipe(task="dense").dataset, Recipe(task="dense").score) == ("relations", "skill")
    assert Recipe(task="reconstruct").dataset == "photographs"
    assert Recipe(also=[{"task": "dense"}]).score == "skill"
    assert Recipe(also=[{"task": "dense"}]).also[0].dataset == "relations"
    assert (Recipe().dataset, Recipe().score) == ("scenes", "top1")
