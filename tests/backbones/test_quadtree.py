import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backbones.mixers.ssm import SSMConfig
from backbones.mixers.ssm_module import SSM
from backbones.orders.quadtree import QuadtreeOfficialOrder, QuadtreeOrder
from backbones.orders.quadtree_module import OfficialQuadtree, Quadtree
from backbones.orders.shift import ShiftConfig

SIDES = st.integers(1, 21)
LEVELS = st.sampled_from([(2, 4), (1, 2), (3, 6), (2, 6), (2, 4, 8), (1, 2, 4, 8)])
SHIFTS = st.sampled_from([None, (1, 1), (-1, 1)])


def tree_of(levels=(2, 4), refine=1, inner=8, **fields):
    torch.manual_seed(0)
    tree = Quadtree(QuadtreeOrder(levels=levels, refine=refine, **fields), inner).eval()
    with torch.no_grad():
        for value in tree.parameters():
            value += 0.3 * torch.randn(value.shape)
    return tree


def score_tokens(tree, scores):
    """Make a tree score tokens as given. Shapes: (B, L)."""
    tree.predictor.forward = lambda x, grid: scores
    return tree


@given(SIDES, SIDES, LEVELS, st.integers(1, 4), SHIFTS, st.booleans())
@settings(max_examples=60, deadline=None)
def test_orders_are_permutations_of_every_image(height, width, levels, refine, sign, training):
    tree = tree_of(levels, min(refine, levels[0] ** 2)).train(training)
    x = torch.randn(3, height * width, 8)
    orders, gate = tree(x, (height, width), sign, ShiftConfig(fraction=2))
    assert orders.shape == (3, 2, height * width)
    assert (orders.sort(-1).values == torch.arange(height * width)).all()
    assert torch.equal(orders[:, 0], orders[:, 1].flip(-1))
    assert gate is None or torch.equal(gate, torch.ones_like(gate))
    assert (gate is not None) == training


@given(SIDES, SIDES, LEVELS, st.integers(1, 4), SHIFTS)
@settings(max_examples=40, deadline=None)
def test_windows_are_walked_whole_one_after_the_other(height, width, levels, refine, sign):
    tree = tree_of(levels, min(refine, levels[0] ** 2))
    x = torch.randn(2, height * width, 8)
    args = (x, (height, width), sign, ShiftConfig(fraction=2))
    orders, _ = tree(*args)
    for walked in torch.gather(tree.windows(*args), 1, orders[:, 0].long()):
        runs = torch.unique_consecutive(walked)
        assert len(runs) == len(torch.unique(walked))


def test_windows_of_the_released_code_are_three_quadrants_and_a_subdivided_one():
    tree = OfficialQuadtree(QuadtreeOfficialOrder(), 8).eval()
    scores = torch.zeros(1, 64)
    scores[0, [4, 5, 12]] = 1.0  # the top right quadrant of 8 x 8
    tree = score_tokens(tree, scores)
    found = tree.windows(torch.zeros(1, 64, 8), (8, 8), None, None)[0].view(8, 8)
    sizes = torch.unique(found, return_counts=True)[1].sort().values
    assert sizes.tolist() == [4] * 4 + [16] * 3
    assert len(found[:4, 4:].unique()) == 4
    rolled = tree.windows(torch.zeros(1, 64, 8), (8, 8), (1, 1), ShiftConfig(fraction=4))
    # The chosen quadrant is that of the map before the shift, as in the released code.
    assert torch.equal(rolled.view(8, 8).roll((2, 2), (0, 1)), found)


def test_the_best_quadrant_is_subdivided_in_place():
    scores = torch.zeros(1, 16)
    scores[0, [2, 3, 6, 7]] = 1.0  # the top right quadrant
    tree = score_tokens(tree_of((2, 4)), scores)
    orders, _ = tree(torch.zeros(1, 16, 8), (4, 4), None, None)
    coarse = [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]
    assert orders[0, 0].tolist() == coarse  # windows of one token: nothing to reorder
    scores = torch.zeros(1, 64)
    scores[0, [4, 5, 12]] = 1.0
    tree = score_tokens(tree_of((2, 4)), scores)
    orders, _ = tree(torch.zeros(1, 64, 8), (8, 8), None, None)
    order = orders[0, 0].tolist()
    assert order[:16] == [r * 8 + c for r in range(4) for c in range(4)]
    assert order[16:32] == [
        r * 8 + c
        for window_row in (0, 2)
        for window_col in (4, 6)
        for r in (window_row, window_row + 1)
        for c in (window_col, window_col + 1)
    ]
    assert order[32:48] == [r * 8 + c for r in range(4, 8) for c in range(4)]


def test_deeper_levels_subdivide_inside_the_chosen_window():
    scores = torch.zeros(1, 64)
    scores[0, [0, 1, 8, 9]] = 1.0
    tree = score_tokens(tree_of((2, 4, 8)), scores)
    orders, _ = tree(torch.zeros(1, 64, 8), (8, 8), None, None)
    # The finest windows hold one token each: the first four slots are the first fine window.
    assert orders[0, 0, :4].tolist() == [0, 1, 8, 9]
    assert orders[0, 0, 4:8].tolist() == [2, 3, 10, 11]
    assert orders[0, 0, 16:20].tolist() == [4, 5, 6, 7]


def test_refine_subdivides_that_many_windows():
    scores = torch.zeros(1, 64)
    scores[0, 0], scores[0, 63] = 2.0, 1.0
    tree = score_tokens(tree_of((2, 4), refine=2), scores)
    order = tree(torch.zeros(1, 64, 8), (8, 8), None, None)[0][0, 0].tolist()
    assert order[:4] == [0, 1, 8, 9]
    assert order[16:20] == [4, 5, 6, 7]
    assert order[48:52] == [36, 37, 44, 45]


def test_images_of_a_batch_choose_for_themselves():
    scores = torch.zeros(2, 64)
    scores[0, 0], scores[1, 63] = 1.0, 1.0
    tree = score_tokens(tree_of((2, 4)), scores)
    orders, _ = tree(torch.zeros(2, 64, 8), (8, 8), None, None)
    assert not torch.equal(orders[0], orders[1])
    alone = score_tokens(tree_of((2, 4)), scores[1:])(torch.zeros(1, 64, 8), (8, 8), None, None)[0]
    assert torch.equal(orders[1:], alone)


def test_scores_move_with_the_shift():
    shift = ShiftConfig(fraction=2)
    scores = torch.zeros(1, 64)
    scores[0, 0] = 1.0  # rolled by (4, 4), token 0 lies in the bottom right quadrant
    tree = score_tokens(tree_of((2, 4)), scores)
    orders, _ = tree(torch.zeros(1, 64, 8), (8, 8), (1, 1), shift)
    assert orders[0, 0, 48:52].tolist() == [0, 1, 8, 9]


def test_training_noise_comes_from_the_default_generator():
    tree = tree_of((2, 4), refine=2).train()
    x = torch.randn(8, 64, 8)
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        runs.append(tree(x, (8, 8), None, None)[0])
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_evaluation_takes_the_best_window_without_noise():
    tree, x = tree_of(), torch.randn(4, 64, 8)
    torch.manual_seed(1)
    first = tree(x, (8, 8), None, None)[0]
    torch.manual_seed(2)
    assert torch.equal(first, tree(x, (8, 8), None, None)[0])


def test_gate_passes_the_gradient_of_the_soft_choice():
    tree = tree_of().train()
    scores = torch.randn(1, 64, requires_grad=True)
    score_tokens(tree, scores)
    torch.manual_seed(0)
    _, gate = tree(torch.zeros(1, 64, 8), (8, 8), None, None)
    weight = torch.randn(1, 64, 1)
    (gate * weight).sum().backward()
    torch.manual_seed(0)
    soft_scores = scores.detach().clone().requires_grad_()
    means = soft_scores.view(1, 2, 4, 2, 4).mean((2, 4)).flatten(1)
    soft, chosen = tree.choose(means, torch.ones(4, dtype=torch.bool))
    sign = (2 * chosen.float() - 1)[..., None, None].view(1, 2, 1, 2, 1).expand(1, 2, 4, 2, 4)
    spread = soft.view(1, 2, 1, 2, 1).expand(1, 2, 4, 2, 4)
    (spread * sign * weight.view(1, 2, 4, 2, 4)).sum().backward()
    assert torch.allclose(scores.grad, soft_scores.grad, atol=1e-6)
    assert scores.grad.abs().max() > 0


@pytest.mark.parametrize("kind", ["quadtree", "quadtree_official"])
def test_predictor_learns_through_the_hard_choice(kind):
    torch.manual_seed(0)
    ssm = SSM(SSMConfig(order=kind), 16).train()
    ssm(torch.randn(2, 64, 16), (8, 8)).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in ssm.layout.predictor.parameters())


@pytest.mark.parametrize("grid", [(8, 8), (7, 10), (5, 5), (3, 9), (14, 15)])
def test_official_sequence_is_restored_to_its_places(grid):
    torch.manual_seed(0)
    tree = OfficialQuadtree(QuadtreeOfficialOrder(), 8).eval()
    x = torch.randn(2, grid[0] * grid[1], 8)
    sequence, restore = tree(x, grid, (1, -1), ShiftConfig())
    height, width = (-(-n // 4) * 4 for n in grid)
    assert sequence.shape == (2, height * width, 8)
    marks = torch.arange(sequence.shape[1]).float().view(1, -1, 1).expand(2, -1, 1)
    assert restore(marks).shape == (2, grid[0] * grid[1], 1)
    # Sums over the sequence are sums over the map: tokens overlap, none is lost.
    assert torch.allclose(sequence.sum(1), x.sum(1), atol=1e-4)


def test_official_overlap_is_that_of_the_released_code():
    # With the top left quadrant chosen, in units of a sixteenth of the map: 0, 1 hold fine
    # windows, 2, 3 nothing, 4, 5 a sum of fine windows and the top right quadrant, 6, 7 the latter.
    tree = OfficialQuadtree(QuadtreeOfficialOrder(), 4).eval()
    tree.predictor.forward = lambda x, grid: (torch.arange(64) == 0).float()[None]
    x = torch.ones(1, 64, 1)
    sequence, _ = tree(x, (8, 8), None, None)
    units = sequence.view(16, 4).mean(1).tolist()
    assert units == [1, 1, 0, 0, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
