"""The training loop on a tiny network: reproducible, continuable, honest about failure."""

import gc
import math

import pytest
import torch
from torch import nn

from nas.errors import StudyError
from nas.study.outcomes import NanLoss, Outcome, Stop, classify
from nas.study.recipe import Recipe
from nas.training import checkpoints
from nas.training.data.catalog import load_data
from nas.training.determinism import reproducible
from nas.training.run import train_model

RECIPE = Recipe(
    dataset="digits",
    image_size=8,
    stem_stride=1,
    train_size=128,
    val_size=64,
    epochs=3,
    batch_size=32,
    lr=1e-2,
)
KEY = {"run": "a"}


class Tiny(nn.Module):
    """Dropout and batch norm: a random state and running statistics to be restored."""

    def __init__(self, chans: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(chans, 8, 3, stride=2), nn.BatchNorm2d(8), nn.GELU(), nn.Dropout(0.2)
        )
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


class Explodes(Tiny):
    def forward(self, x):
        return super().forward(x) * float("inf")


def train(recipe=RECIPE, seed=0, model=Tiny, report=None, stop=lambda: False, **kwargs):
    seen = []

    def note(metrics):
        seen.append(metrics)
        if report is not None:
            report(metrics)

    with reproducible(seed, recipe.threads, "cpu"):
        net = model()
        result = train_model(
            net,
            [load_data(recipe)],
            recipe,
            seed=seed,
            device="cpu",
            report=note,
            checkpoint=kwargs.get("checkpoint"),
            key=kwargs.get("key", KEY),
            should_stop=stop,
        )
    weights = torch.cat([p.detach().flatten() for p in net.parameters()])
    return (result.val_top1, result.val_loss), weights, seen


def stop_after(epoch):
    def report(metrics):
        if metrics.epoch == epoch:
            raise Stop("enough")

    return report


VARIANTS = [
    RECIPE,
    RECIPE.model_copy(update={"ema": 0.9, "augment": "flip", "accumulate": 2}),
    RECIPE.model_copy(update={"precision": "bf16", "optimizer": "sgd", "lr": 0.1}),
]


@pytest.mark.parametrize("recipe", VARIANTS, ids=["plain", "ema_flip_accumulate", "bf16_sgd"])
def test_same_seed_gives_the_same_bits(recipe):
    first = train(recipe)
    train(recipe, seed=5)  # other trials in between
    torch.rand(17)
    second = train(recipe)
    assert first[0] == second[0]
    assert torch.equal(first[1], second[1])
    assert train(recipe, seed=5)[0] != first[0]


@pytest.mark.parametrize("recipe", VARIANTS, ids=["plain", "ema_flip_accumulate", "bf16_sgd"])
@pytest.mark.parametrize("epoch", [1, 2])
def test_continued_run_equals_an_uninterrupted_one(tmp_path, recipe, epoch):
    whole = train(recipe)
    with pytest.raises(Stop):
        train(recipe, report=stop_after(epoch), checkpoint=tmp_path)
    continued = train(recipe, checkpoint=tmp_path)
    assert [m.epoch for m in continued[2]] == list(range(epoch + 1, 4))
    assert continued[0] == whole[0]
    assert torch.equal(continued[1], whole[1])
    assert [(m.train_loss, m.val_loss, m.val_top1) for m in continued[2]] == [
        (m.train_loss, m.val_loss, m.val_top1) for m in whole[2][epoch:]
    ]


def test_finished_checkpoint_gives_its_result_without_training(tmp_path):
    first = train(checkpoint=tmp_path)
    again = train(checkpoint=tmp_path, stop=lambda: pytest.fail("trained a batch"))
    assert again[0] == first[0]
    assert again[2] == []


def test_stop_between_batches_keeps_the_last_whole_epoch(tmp_path):
    calls = iter(range(10_000))
    with pytest.raises(Stop, match="epoch 2"):
        train(checkpoint=tmp_path, stop=lambda: next(calls) >= 6)
    continued = train(checkpoint=tmp_path)
    assert [m.epoch for m in continued[2]] == [2, 3]
    assert continued[0] == train()[0]


def test_report_counts_epochs_and_time_grows():
    _, _, seen = train()
    assert [(m.epoch, m.epochs) for m in seen] == [(1, 3), (2, 3), (3, 3)]
    assert seen[0].seconds <= seen[1].seconds <= seen[2].seconds


@pytest.mark.parametrize("images", [32, 64, 96, 128, 160, 320])
def test_few_updates_are_enough_for_the_schedule(images):
    score, _, seen = train(RECIPE.model_copy(update={"train_size": images}))
    assert len(seen) == 3 and all(math.isfinite(s) for s in score)


def test_tiny_network_learns():
    recipe = RECIPE.model_copy(update={"epochs": 12, "train_size": 512})
    result, _, seen = train(recipe)
    assert result[0] > 0.4
    assert seen[-1].val_loss < seen[0].val_loss


def test_averaged_weights_are_what_is_evaluated():
    recipe = RECIPE.model_copy(update={"epochs": 8, "train_size": 512})
    plain = train(recipe)
    # Averaging with next to no memory follows the weights; with a long one it lags far behind.
    near = train(recipe.model_copy(update={"ema": 1e-6}))
    far = train(recipe.model_copy(update={"ema": 0.9999}))
    assert near[0][1] == pytest.approx(plain[0][1], abs=1e-3)
    assert far[0][1] > plain[0][1] + 0.1
    assert torch.equal(near[1], plain[1]) and torch.equal(far[1], plain[1])


def test_accumulated_update_equals_a_whole_one_without_batch_statistics():
    class Plain(Tiny):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), nn.GELU())

    whole = train(model=Plain)
    parts = train(RECIPE.model_copy(update={"accumulate": 4}), model=Plain)
    assert torch.allclose(whole[1], parts[1], atol=1e-4)


def test_nan_loss_names_epoch_and_update():
    with pytest.raises(NanLoss, match="epoch 1, update 1") as caught:
        train(model=Explodes)
    assert classify(caught.value) is Outcome.NAN


def test_nan_in_validation_alone_is_found():
    class Breaks(Tiny):
        def forward(self, x):
            y = super().forward(x)
            return y if self.training else y * float("nan")

    with pytest.raises(NanLoss, match="validation loss"):
        train(model=Breaks)


def test_allocation_failure_passes_through_as_oom():
    class Greedy(Tiny):
        def forward(self, x):
            return super().forward(x) + torch.empty(2**55, dtype=torch.uint8).sum()

    with pytest.raises(RuntimeError) as caught:
        train(model=Greedy)
    assert classify(caught.value) is Outcome.OOM


def test_environment_is_put_back_even_after_an_error():
    def look():
        return (
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.get_rng_state().sum().item(),
        )

    before = look()
    with pytest.raises(NanLoss):
        train(RECIPE.model_copy(update={"threads": 1}), model=Explodes)
    train(RECIPE.model_copy(update={"threads": 1}))
    assert look() == before


def test_checkpoint_of_another_run_is_refused(tmp_path):
    train(checkpoint=tmp_path)
    with pytest.raises(StudyError, match=r"proxy\.pt' belongs to another run \(other run\)"):
        train(checkpoint=tmp_path, key={"run": "b"})


def test_damaged_checkpoint_is_refused(tmp_path):
    (tmp_path / checkpoints.FILE_NAME).write_bytes(b"PK damaged")
    with pytest.raises(StudyError, match="cannot be read"):
        train(checkpoint=tmp_path)


def test_unwritable_checkpoint_directory_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StudyError, match="cannot be written"):
        train(checkpoint=tmp_path / "file")


def test_checkpoint_leaves_one_file(tmp_path):
    train(checkpoint=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [checkpoints.FILE_NAME]


def test_weights_of_finished_runs_are_freed():
    train()
    gc.collect()
    before = sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())
    for seed in range(5):
        train(RECIPE.model_copy(update={"epochs": 1, "ema": 0.9}), seed=seed)
    gc.collect()
    after = sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())
    assert after <= before
