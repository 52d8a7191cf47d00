"""A whole proxy run on real backbones: the same inputs, the same score, bit for bit."""

import gc
import resource
from pathlib import Path

import pytest
import torch

import backbones
from backbones.config import BackboneConfig
from nas.errors import DataError, StudyError
from nas.study.outcomes import Stop
from nas.study.recipe import Recipe
from nas.training.run import ProxyResult, train_proxy
from nas.training.scaling import proxy_config

RECIPE = Recipe(
    dataset="scenes",
    train_size=64,
    val_size=32,
    image_size=16,
    stem_stride=1,
    flops_ratio=2e-4,
    depth_ratio=0.5,
    epochs=2,
    batch_size=16,
    ema=0.9,
)

MIB = 2**20
GROWTH = 30 * MIB  # of the process over the runs below; a leaked network or data set is more

NET = """
schema: 1
blocks:
  q: {mixer: {kind: ssm, order: {kind: quadtree, levels: [2, 4]}, shift: omni}}
  s: {mixer: {kind: ssm, order: cross, d_state: 2}}
  g: {mixer: {kind: gated_conv}}
stages:
- {width: 48, depth: 2, pattern: q}
- {width: 96, depth: 2, pattern: sg, downsample: conv3x3}
"""


def design(text=NET):
    return BackboneConfig.from_yaml(text)


def run(config=None, recipe=RECIPE, seed=0, **kwargs):
    kwargs.setdefault("report", lambda metrics: None)
    return train_proxy(config or design(), recipe, seed=seed, device="cpu", **kwargs)


def numbers(result):
    return result.score, result.top1, result.val_loss


def test_quadtree_score_repeats_bit_for_bit_between_other_trials():
    alone = run()
    run(seed=3)
    run(backbones.load_config("mambaout_femto"), RECIPE.model_copy(update={"epochs": 1}))
    torch.manual_seed(99)
    assert numbers(run()) == numbers(alone)
    assert run(seed=3).val_loss != alone.val_loss


def test_continued_quadtree_run_equals_an_uninterrupted_one(tmp_path):
    whole = run()

    def stop(metrics):
        raise Stop("after the first epoch")

    with pytest.raises(Stop):
        run(report=stop, checkpoint=tmp_path)
    assert numbers(run(checkpoint=tmp_path)) == numbers(whole)


def test_checkpoint_of_another_seed_is_refused(tmp_path):
    run(checkpoint=tmp_path)
    with pytest.raises(StudyError, match=r"other seed"):
        run(seed=1, checkpoint=tmp_path)


def test_result_says_what_was_trained():
    result = run()
    assert isinstance(result, ProxyResult)
    scaled, notes = proxy_config(design(), RECIPE, 10, 3)
    model = backbones.create(scaled)
    assert result.proxy_params == sum(p.numel() for p in model.parameters())
    assert result.proxy_flops == backbones.cost(scaled, image_size=16).flops
    assert result.backend in ("numba", "reference")
    assert (result.device, result.dtype, result.epochs) == ("cpu", "float32", 2)
    assert result.notes == tuple(notes)
    assert 0 <= result.top1 <= 1 and result.seconds > 0


def test_score_follows_the_recipe():
    top1 = run(recipe=RECIPE.model_copy(update={"score": "top1"}))
    likelihood = run(recipe=RECIPE.model_copy(update={"score": "likelihood"}))
    assert top1.score == top1.top1
    assert likelihood.val_loss == top1.val_loss
    assert likelihood.score == pytest.approx(2.718281828459045 ** (-top1.val_loss))


def test_backend_in_force_is_recorded():
    import kernels

    with kernels.use_backend("reference"):
        result = run(recipe=RECIPE.model_copy(update={"epochs": 1, "train_size": 16}))
    assert result.backend == "reference"


def test_folder_given_at_run_time_is_used(tmp_path):
    from PIL import Image

    for c, name in enumerate(("a", "b")):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(25):
            Image.new("RGB", (16, 16), (90 * c, 5 * i, 0)).save(
                tmp_path / "set" / name / f"{i}.png"
            )
    recipe = RECIPE.model_copy(update={"dataset": "folder:set", "epochs": 1})
    with pytest.raises(DataError, match="does not exist"):
        run(recipe=recipe)
    assert run(recipe=recipe.model_copy(update={"data_dir": str(tmp_path)})).epochs == 1


def resident():
    """Return the bytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_many_short_trials_do_not_grow_the_process():
    recipe = RECIPE.model_copy(update={"epochs": 1, "train_size": 16, "val_size": 8})
    for seed in range(3):
        run(recipe=recipe, seed=seed)
    gc.collect()
    before = resident()
    for seed in range(15):
        run(recipe=recipe, seed=seed)
    gc.collect()
    assert resident() - before < GROWTH
