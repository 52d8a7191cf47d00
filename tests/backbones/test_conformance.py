"""What every network must do: each preset's design, each mixer and each scan order."""

import copy

import pytest
import torch
from tiny_models import TINY_SIZE, models

from backbones import cost, create
from backbones.config import BackboneConfig
from backbones.flop_handles import count_flops
from kernels import use_backend

BATCH_TOLERANCE = 2e-5  # float32: other shapes take other reduction orders in matrix products
BACKEND_TOLERANCE = 1e-4  # float32 scans: other reduction orders
HALF_TOLERANCE = 0.06  # bfloat16 keeps 8 bits; logits here are about 1

MODELS = models()
SIZES = [(TINY_SIZE, TINY_SIZE), (37, 22)]

each_model = pytest.mark.parametrize("name", MODELS)


def build(name: str, **overrides: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return create(MODELS[name], **overrides).eval()


def images(batch: int = 2, size: tuple[int, int] = SIZES[0], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, *size, generator=generator)


def settle(model: torch.nn.Module) -> torch.nn.Module:
    """Move weights away from their zeros and ones, so that no path is silent."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            value += 0.05 * torch.randn(value.shape, generator=generator, dtype=value.dtype)
    return model


@each_model
def test_forward_and_backward_reach_every_parameter(name):
    model = settle(build(name)).train()
    # Large enough for two tokens a side in a fourth stage: a scan of one step has no decay.
    model(images(2, (64, 64))).square().mean().backward()
    silent = [k for k, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


@each_model
@pytest.mark.parametrize("size", [*SIZES, (33, 65)], ids=str)
def test_any_size_gives_logits_and_counts(name, size):
    model = build(name)
    logits = model(images(1, size))
    assert logits.shape == (1, 5)
    assert logits.isfinite().all()
    assert count_flops(model, size) == cost(MODELS[name], size).flops
    assert cost(MODELS[name]).params == sum(p.numel() for p in model.parameters())


@each_model
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_rows_of_a_batch_equal_images_alone(name, size):
    model = settle(build(name))
    batch = images(3, size)
    with torch.no_grad():
        together = model(batch)
        alone = torch.cat([model(image[None]) for image in batch])
    assert (together - alone).abs().max() < BATCH_TOLERANCE


@each_model
def test_evaluation_is_deterministic_and_backends_agree(name):
    model = settle(build(name))
    with torch.no_grad():
        first, second = model(images()), model(images())
        with use_backend("reference"):
            reference = model(images())
    assert torch.equal(first, second)
    assert (first - reference).abs().max() < BACKEND_TOLERANCE


@each_model
def test_save_and_load_round_trip(name, tmp_path):
    model = settle(build(name))
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    torch.manual_seed(1)
    other = create(BackboneConfig.from_yaml(model.config.to_yaml())).eval()
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    with torch.no_grad():
        assert torch.equal(model(images()), other(images()))


@each_model
def test_config_round_trip_keeps_fingerprint(name):
    config = MODELS[name]
    again = BackboneConfig.from_yaml(config.to_yaml())
    assert again == config
    assert again.fingerprint() == config.fingerprint()
    assert again.to_yaml() == config.to_yaml()


@each_model
def test_double_precision_agrees_with_single(name):
    model = settle(build(name))
    with torch.no_grad(), use_backend("reference"):
        single = model(images())
        double = model.double()(images().double())
    assert double.dtype == torch.float64
    assert (single - double).abs().max() < BACKEND_TOLERANCE


# Half precision may move the scores of two windows past each other, and so change the route.
@pytest.mark.parametrize("name", [name for name in MODELS if "quad" not in name])
def test_autocast_stays_near_float32(name):
    model = settle(build(name))
    with torch.no_grad():
        full = model(images())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = model(images())
    assert (full - half.float()).abs().max() < HALF_TOLERANCE * max(1.0, full.abs().max())


@each_model
def test_half_precision_weights_run(name):
    model = settle(build(name)).bfloat16()
    with torch.no_grad():
        logits = model(images().bfloat16())
    assert logits.dtype == torch.bfloat16
    assert logits.isfinite().all()


@each_model
def test_checkpointed_gradients_equal_plain_ones(name):
    plain = settle(build(name)).train()
    saving = copy.deepcopy(plain)
    saving.set_grad_checkpointing(True)
    gradients = []
    for model in (plain, saving):
        torch.manual_seed(3)  # quadtrees draw noise in training
        model(images()).square().mean().backward()
        gradients.append([p.grad for p in model.parameters()])
    # BatchNorm sees a batch twice under checkpointing; its running mean moves, gradients do not.
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients))


@each_model
def test_training_is_reproducible_from_the_seed(name):
    runs = []
    for _ in range(2):
        torch.manual_seed(7)
        model = create(MODELS[name], drop_path_rate=0.2).train()
        torch.manual_seed(8)
        loss = model(images()).square().mean()
        loss.backward()
        runs.append((loss.detach(), [p.grad for p in model.parameters()]))
    assert torch.equal(runs[0][0], runs[1][0])
    assert all(torch.equal(a, b) for a, b in zip(runs[0][1], runs[1][1]) if a is not None)


@each_model
def test_training_follows_inference_mode(name):
    model = build(name)
    size = (41, 29)  # a size of its own: its order tables are first made in inference mode
    with torch.inference_mode():
        expected = model(images(1, size))
    logits = model(images(1, size))
    logits.sum().backward()
    assert (logits - expected).abs().max() < BATCH_TOLERANCE
