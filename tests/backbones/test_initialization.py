"""Weights start as the official code of each family starts them: mean and deviation of each."""

import math
import re

import pytest
import timm
import torch

from backbones import create, load_config
from backbones.initialization import dynamics
from backbones.official import official_names

SIGMAS = 6.0  # of sampling error; about 9000 comparisons are made
OF_DEVIATION = math.sqrt(0.5)  # sampling error of a normal's deviation, times sqrt(n); most here

Moments = tuple[float, float]


def linear(shape: tuple[int, ...]) -> Moments:
    """Swin's rule: normal of deviation 0.02, cut at +-2."""
    return 0.0, 0.02


def default(shape: tuple[int, ...]) -> Moments:
    """PyTorch's rule for linear layers and convolutions: uniform within fan_in ** -0.5."""
    return 0.0, math.prod(shape[1:]) ** -0.5 / math.sqrt(3)


def lecun(shape: tuple[int, ...]) -> Moments:
    """LeCun normal."""
    return 0.0, math.prod(shape[1:]) ** -0.5


def last(shape: tuple[int, ...]) -> Moments:
    """PyTorch's rule, for weights stacked by route, (K, out, in)."""
    return 0.0, shape[-1] ** -0.5 / math.sqrt(3)


def by_rank(shape: tuple[int, ...]) -> Moments:
    """The weight of the dt projection, (K, E, R): uniform within R ** -0.5."""
    return last(shape)


def constant(value: float):
    return lambda shape: (value, 0.0)


def residual(depth: int):
    """PyTorch's rule, divided by the square root of the depth."""
    return lambda shape: (0.0, default(shape)[1] / math.sqrt(depth))


def steps(shape: tuple[int, ...]) -> Moments:
    """A dt bias whose softplus is log-uniform from 1e-3 to 1e-1."""
    grid = torch.linspace(math.log(1e-3), math.log(1e-1), 100_001, dtype=torch.float64).exp()
    bias = grid + torch.log(-torch.expm1(-grid))
    return bias.mean().item(), bias.std().item()


def states(shape: tuple[int, ...]) -> Moments:
    """log(1), ..., log(N) in each row."""
    rates = torch.arange(1, shape[-1] + 1, dtype=torch.float64).log()
    return rates.mean().item(), rates.std(correction=0).item()


def bias_of(fan_in: int):
    return lambda shape: (0.0, fan_in**-0.5 / math.sqrt(3))


ONE, ZERO = constant(1.0), constant(0.0)
NORMS = [
    (r"(norm\d?|norm_f|ln1|patch_embed\.[27]|downsample\.3|classifier\.norm)\.weight$", ONE),
    (r"(norm\d?|norm_f|ln1|patch_embed\.[27]|downsample\.3|classifier\.norm)\.bias$", ZERO),
    (r"score_predictor\.in_conv\.0\.weight$", ONE),
    (r"(Ds|\.D|\.D_b|\.D_\d)$", ONE),
    (r"(A_logs|A_log|A_b_log|A_log_\d)$", states),
]
BATCH_NORMS = [
    (r"(stem\.1|convs\.\d*[147]|dw\.1|conv_branch\.1|conv_\w+\.1)\.(weight|running_var)$", ONE),
    (r"(stem\.1|convs\.\d*[147]|dw\.1|conv_branch\.1|conv_\w+\.1)\.(bias|running_mean)$", ZERO),
]
# VMamba's classification/models/vmamba.py @ 2ed52ea: _init_weights knows linear layers and norms;
# x_proj, dt_projs are bare parameters by then, convolutions keep PyTorch's rule. QuadMamba,
# LocalVMamba and EfficientVMamba took it over.
VMAMBA = [
    *NORMS,
    *BATCH_NORMS,
    (r"x_proj_weight$", last),
    (r"dt_projs_weight$", by_rank),
    (r"dt_projs_bias$", steps),
    (r"(patch_embed\.[05]|downsample\.1|conv2d|conv_\w+\.[03]|conv_reduce|conv_expand)\.weight$",
     default),
    (r"(in_proj|out_proj|fc\d|head|reduction|global_reduce|channel_select|in_conv\.1|out_conv\.\d)"
     r"\.weight$", linear),
    (r"(fc\d|head|global_reduce|channel_select|in_conv\.\d|out_conv\.\d)\.bias$", ZERO),
]  # fmt: skip
# Vim's vim/models_mamba.py @ dd0358a: segm_init_weights on patch embedding and head, then Mamba's
# own _init_weights, which divides output projections by sqrt(depth).
VIM = [
    *NORMS,
    (r"patch_embed\.proj\.weight$", lecun),
    (r"patch_embed\.proj\.bias$", ZERO),
    (r"head\.weight$|pos_embed$|cls_token$", linear),
    (r"head\.bias$", ZERO),
    (r"conv1d(_b)?\.(weight|bias)$", bias_of(4)),
    (r"(in_proj|x_proj|x_proj_b)\.weight$", last),
    (r"dt_proj(_b)?\.weight$", by_rank),
    (r"dt_proj(_b)?\.bias$", steps),
    (r"out_proj\.weight$", residual(24)),
]
# LocalMamba's local_vim.py @ 75e5d1f: its segm_init_weights is applied to the whole network and
# knows no convolutions; it wipes the start of the dt projection.
LOCAL_VIM = [
    *NORMS,
    (r"patch_embed\.proj\.weight$", default),
    (r"patch_embed\.proj\.bias$", bias_of(3 * 16 * 16)),
    (r"conv1d_\d\.(weight|bias)$", bias_of(4)),
    (r"out_proj\.weight$", residual(20)),
    (r"(in_proj|x_proj_\d|dt_proj_\d|global_reduce|channel_select|head)\.weight$", linear),
    (r"pos_embed$|cls_token$", linear),
    (r"(dt_proj_\d|global_reduce|channel_select|head)\.bias$", ZERO),
]
# PlainMamba's configs @ 0975a1d: init_cfg of the whole network names linear layers; the classifier
# is mmcls's LinearClsHead, which starts at 0.01.
PLAINMAMBA = [
    *NORMS,
    *BATCH_NORMS,
    (r"patch_embed\.(stem\.0|convs\.\d|projection)\.weight$|(conv2d|dw\.0)\.weight$", default),
    (r"patch_embed\.projection\.bias$", bias_of(64 * 8 * 8)),
    (r"conv2d\.bias$", bias_of(49)),
    (r"head\.fc\.weight$", lambda shape: (0.0, 0.01)),
    (r"(in_proj|x_proj|dt_proj|out_proj)\.weight$|pos_embed$|direction_Bs$", linear),
    (r"(in_proj|dt_proj|out_proj|head\.fc)\.bias$", ZERO),
]

OFFICIAL = {
    "vmamba_tiny_s1l8": VMAMBA,
    "vmamba_v0_tiny": VMAMBA,
    "quadmamba_lite": VMAMBA,
    "local_vssm_tiny": VMAMBA,
    "efficient_vmamba_tiny": VMAMBA,
    "vim_tiny": VIM,
    "local_vim_tiny": LOCAL_VIM,
    "local_vim_tiny_middle_cls_token": LOCAL_VIM,
    "plainmamba_l1": PLAINMAMBA,
    "plainmamba_l2": PLAINMAMBA,
}
MAMBAOUTS = ("femto", "kobe", "tiny", "small", "base")


def ordinary(value: torch.Tensor) -> torch.Tensor:
    """Leave out what a normal cut at +-2 draws once in 2 ** 24: the cut itself, not +-0.1."""
    value = value.double()
    return value[value > -2]


def fresh(name: str) -> dict[str, torch.Tensor]:
    """Return the state of a new model."""
    torch.manual_seed(0)
    return {k: v for k, v in create(name).state_dict().items() if v.is_floating_point()}


def assert_drawn_from(value: torch.Tensor, mean: float, deviation: float, key: str) -> None:
    """Assert that a tensor's mean and deviation are those of a distribution."""
    value, count = ordinary(value) if deviation == 0.02 else value.double(), value.numel()
    found = value.mean().item(), value.std(correction=0).item()
    if deviation == 0:
        assert value.eq(mean).all(), (key, found)
        return
    error = SIGMAS * deviation / math.sqrt(count)
    assert abs(found[0] - mean) <= error + 1e-6, (key, found, mean)
    assert abs(found[1] - deviation) <= OF_DEVIATION * error + deviation / count + 1e-6, (
        key,
        found,
        deviation,
    )


@pytest.mark.parametrize("name", OFFICIAL)
def test_weights_start_as_in_the_official_code(name):
    state = fresh(name)
    sources = official_names(load_config(name)).sources
    for ours, value in state.items():
        theirs = sources[ours].keys[0]
        rule = next((rule for pattern, rule in OFFICIAL[name] if re.search(pattern, theirs)), None)
        if rule is None and theirs.endswith(".bias"):  # of a convolution left to PyTorch
            rule = bias_of(math.prod(state[ours[: -len("bias")] + "weight"].shape[1:]))
        assert rule is not None, theirs
        mean, deviation = rule(tuple(value.shape))
        assert_drawn_from(value, mean, deviation, theirs)


TIMMS = {f"mambaout_{size}": f"mambaout_{size}" for size in MAMBAOUTS} | {
    "vit_small": "vit_small_patch16_224"
}


@pytest.mark.parametrize("name", TIMMS)
def test_it_starts_as_timms(name):
    ours, sources = fresh(name), official_names(load_config(name))
    torch.manual_seed(1)
    theirs = timm.create_model(TIMMS[name]).state_dict()
    renamed = [pair for _, pairs in sources.other for pair in pairs]
    official = {}
    for key, value in theirs.items():
        old, new = next(((o, n) for o, n in renamed if re.search(o, key)), ("$^", ""))
        official[re.sub(old, new, key)] = value
    assert len(official) == len(theirs) == len(ours)
    for key, value in ours.items():
        other = ordinary(official[sources.sources[key].keys[0]])
        deviation = other.std(correction=0).item()
        if deviation:  # both are samples: the error of a difference
            error = math.sqrt(2) * SIGMAS * deviation / math.sqrt(other.numel())
            value = ordinary(value)
            assert abs(value.mean() - other.mean()) <= error, key
            assert abs(value.std(correction=0) - deviation) <= OF_DEVIATION * error, key
        else:
            assert torch.equal(value.double(), other), key


@pytest.mark.parametrize(
    "rule, moments",  # mean and deviation of A_log, dt_proj and dt_bias
    [
        ("random", [(0, 1), (0, 0.1), (0, 0.1)]),
        ("zero", [(0, 0), (0.05, 0.1 / 12**0.5), (0.05, 0.1 / 12**0.5)]),
    ],
)
def test_starts_of_vmambas_ablation(rule, moments):
    torch.manual_seed(0)
    made = dynamics(rule, sets=4, inner=600, rank=5, state=3)
    assert set(made) == {"x_proj", "dt_proj", "dt_bias", "A_log", "D"}
    for name, (mean, deviation) in zip(("A_log", "dt_proj", "dt_bias"), moments):
        assert made[name].mean().item() == pytest.approx(mean, abs=0.02 * max(deviation, 0.5))
        assert made[name].std().item() == pytest.approx(deviation, rel=0.05)
    assert (made["D"] == 1).all()


def test_a_wrong_start_is_seen():
    torch.manual_seed(0)
    with pytest.raises(AssertionError):
        assert_drawn_from(torch.randn(48, 3, 3, 3) * 0.11, 0.0, 0.02, "stem")
    with pytest.raises(AssertionError):
        assert_drawn_from(torch.randn(1000) * 0.02 + 0.01, 0.0, 0.02, "shifted")


def test_networks_without_a_rule_leave_convolutions_to_their_parts():
    config = load_config("mambaout_femto").model_copy(update={"conv_init": None})
    torch.manual_seed(0)
    model = create(config)
    fan_in = model.stem.conv1.weight[0].numel()
    assert model.stem.conv1.weight.std().item() == pytest.approx((3 * fan_in) ** -0.5, rel=0.1)
    assert model.stages[0].blocks[0].mixer.conv.weight.std().item() == pytest.approx(0.02, rel=0.1)
