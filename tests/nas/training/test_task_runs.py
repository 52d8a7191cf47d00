"""Whole runs of every task on real backbones: the same bits, continued or not, alone or not."""

import json

import pytest
import torch

import backbones
from backbones.config import BackboneConfig
from nas.study.outcomes import Stop
from nas.study.recipe import Recipe
from nas.training.data.catalog import load_data
from nas.training.readout import Readout, TaskNet
from nas.training.run import train_proxy
from nas.training.scaling import proxy_config
from search_spaces.errors import SpaceError

SMALL = {
    "train_size": 48,
    "val_size": 24,
    "image_size": 16,
    "stem_stride": 2,
    "flops_ratio": 2e-4,
    "epochs": 2,
    "batch_size": 16,
}
RECIPES = {
    "relations": Recipe(task="dense", **SMALL),
    "scenes": Recipe(task="dense", dataset="scenes", augment="flip", ema=0.9, **SMALL),
    "photographs": Recipe(task="reconstruct", mask_shape="rows", accumulate=2, **SMALL),
    "mixture": Recipe(
        task="reconstruct",
        also=[
            {"task": "dense", "weight": 2.0},
            {"task": "classify", "dataset": "digits"},
            {"task": "reconstruct", "mask_share": 0.5},
        ],
        **SMALL,
    ),
}
NET = """
schema: 1
blocks:
  q: {mixer: {kind: ssm, order: {kind: quadtree, levels: [2, 4]}}}
  g: {mixer: {kind: gated_conv}}
stages:
- {width: 48, depth: 2, pattern: q}
- {width: 96, depth: 2, pattern: g, downsample: conv3x3}
"""


def run(recipe, config=None, seed=0, **kwargs):
    config = config or BackboneConfig.from_yaml(NET)
    kwargs.setdefault("report", lambda metrics: None)
    return train_proxy(config, recipe, seed=seed, device="cpu", **kwargs)


def numbers(result):
    return result.score, result.val_loss, result.scores


@pytest.mark.parametrize("name", RECIPES)
def test_score_repeats_bit_for_bit_from_what_a_row_stores(name, tmp_path):
    """Alone, after another run, from the recipe as stored, and continued from a checkpoint."""
    recipe = RECIPES[name]
    first = run(recipe)
    torch.rand(17)
    stored = Recipe.model_validate(json.loads(json.dumps(recipe.to_dict())))
    assert stored == recipe and stored.fingerprint() == recipe.fingerprint()

    def stop(metrics):
        raise Stop("after the first epoch")

    with pytest.raises(Stop):
        run(stored, report=stop, checkpoint=tmp_path)
    assert numbers(run(stored, checkpoint=tmp_path)) == numbers(first)
    assert run(recipe, seed=1).val_loss != first.val_loss


def test_parts_of_a_mixture_are_stored_and_their_mean_is_the_score():
    scores = run(RECIPES["mixture"]).scores
    parts = ["reconstruct1", "dense", "classify", "reconstruct2"]
    assert [f"{p}/skill" in scores for p in parts] == [True] * 4
    weights = [1, 2, 1, 1]
    mean = sum(w * scores[f"{p}/skill"] for w, p in zip(weights, parts)) / 5
    assert run(RECIPES["mixture"]).score == pytest.approx(mean)
    assert {f"dense/{name}" for name in ("left", "carry", "window")} <= set(scores)


def test_test_split_is_scored_when_asked_for():
    usual, test = (run(RECIPES["photographs"], split=s) for s in ("val", "test"))
    assert usual.val_loss != test.val_loss
    assert usual.proxy_params == test.proxy_params


@pytest.mark.parametrize("preset", ["vim_tiny", "mambaout_femto", "plainmamba_l1"])
def test_every_kind_of_backbone_answers_per_token(preset):
    recipe = RECIPES["relations"].model_copy(update={"epochs": 1, "train_size": 16})
    result = run(recipe, backbones.load_config(preset))
    assert result.chance == 0 and -1 <= result.score <= 1


def test_readout_brings_maps_of_any_size_to_one_grid():
    readout = Readout([4, 8, 6], 5, grid=8, fine=1)
    maps = [torch.randn(2, n, n, c) for n, c in ((8, 4), (4, 8), (3, 6))]
    assert readout(maps).shape == (2, 8, 8, 5)
    with torch.no_grad():
        for linear in readout.linears:
            linear.weight.zero_()
            linear.bias.fill_(1.0)
    # Interpolation keeps a constant.
    assert torch.allclose(readout(maps), torch.full((2, 8, 8, 5), 3.0))


def test_coarse_first_map_answers_for_each_of_its_tokens():
    """Token (y, x) of the map answers for tokens (2y, 2x) to (2y + 1, 2x + 1) of the grid."""
    readout = Readout([4], 3, grid=6, fine=2)
    x = torch.zeros(1, 3, 3, 4)
    x[0, 1, 2] = torch.tensor([1.0, -1.0, 2.0, 0.0])
    with torch.no_grad():
        readout.linears[0].bias.zero_()
    touched = readout([x])[0].abs().sum(-1).nonzero().tolist()
    assert touched == [[2, 4], [2, 5], [3, 4], [3, 5]]


def test_task_net_keeps_what_must_not_decay():
    recipe = RECIPES["relations"]
    scaled, _ = proxy_config(backbones.load_config("vim_tiny"), recipe, 0, 3)
    net = TaskNet(backbones.create(scaled), [], recipe.grid)
    names = {name for name, _ in net.named_parameters()}
    assert {"backbone.cls_token"} <= net.no_weight_decay() <= names


def test_unscaled_design_is_trained_as_it_is():
    config = BackboneConfig.from_yaml(NET)
    result = run(RECIPES["relations"], config, scale=False)
    whole = config.model_copy(update={"num_classes": 0, "image_size": 16})
    assert result.proxy_params == backbones.cost(whole, image_size=16).params


def test_order_that_cannot_act_on_the_map_is_refused():
    """Scaled down it would be replaced, with a note; as it is, it has to act."""
    text = NET.replace("levels: [2, 4]", "levels: [2, 64]")
    with pytest.raises(
        SpaceError, match=r"stage 1 \(4 x 4 tokens\): block 'q' cannot act.*image_size"
    ):
        run(RECIPES["relations"], BackboneConfig.from_yaml(text), scale=False)


def test_gray_images_get_three_channels_beside_others():
    data = load_data(RECIPES["mixture"], RECIPES["mixture"].parts[2])
    assert data.in_chans == 1
    wide = data.with_chans(3)
    assert wide.train_x.shape[1] == wide.val_x.shape[1] == len(wide.mean) == 3
    assert torch.equal(wide.train_x[:, 2], data.train_x[:, 0])
