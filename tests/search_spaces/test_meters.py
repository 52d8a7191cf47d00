"""Measured amounts at any widths: search_spaces/meters.py, and fits to bands of them."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_spaces import rng, space

from backbones import list_presets, load_config
from backbones.pieces import pieces
from search_spaces import Band, SpaceError, UnreachableError, fit_widths, list_spaces
from search_spaces.fit import MeteredBand, check_bands, spent_of
from search_spaces.meters import LADDER, PieceMeter

BETWEEN_RUNGS = 0.01
"""How far a smooth amount may be from its power law between two rungs."""


def amount_of(piece):
    """A fixed part, one by the width and one by its square: what times of layers look like."""
    tokens = piece.grid[0] * piece.grid[1] / 1e4
    first, last = piece.widths[0], piece.widths[-1]
    return 0.02 + tokens * (0.01 * last + 1e-4 * first * last)


class Counted:
    def __init__(self):
        self.asked = Counter()

    def __call__(self, piece):
        self.asked[piece.key] += 1
        return amount_of(piece)


def exact(config, widths, size=224):
    return sum(
        times * amount_of(piece.at(*(widths[stage] for stage in stages)))
        for piece, stages, times in pieces(config, size)
    )


@settings(deadline=None, max_examples=40)
@given(name=st.sampled_from(list_presets()), scale=st.floats(0.3, 2.0))
def test_amounts_between_the_rungs_are_near_the_truth(name, scale):
    config = load_config(name)
    widths = [max(8, 8 * round(scale * s.width / 8)) for s in config.stages]
    found = PieceMeter(amount_of)(config, 224)(widths)
    assert found == pytest.approx(exact(config, widths), rel=BETWEEN_RUNGS)


def test_a_rung_is_what_was_measured():
    config = load_config("vmamba_tiny_s1l8")
    widths = [96, 192, 384, 768]
    assert set(widths) <= set(LADDER)
    counted = Counted()
    found = PieceMeter(counted)(config, 224)(widths)
    assert found == pytest.approx(exact(config, widths))
    assert len(counted.asked) == len(list(pieces(config, 224)))  # one block a stage


@pytest.mark.parametrize("name", list_spaces())
def test_designs_are_fitted_to_a_latency(name):
    searched = space(name)
    metered = MeteredBand("latency", 0.95 * 30, 30.0, PieceMeter(amount_of))
    for seed in range(4):
        config = searched.build(searched.sample(rng(seed)), [metered])
        (spent,) = spent_of(config, [metered], 224, "fvcore")
        assert 0.95 * 30 <= spent <= 30
        assert spent == pytest.approx(
            exact(config, [s.width for s in config.stages]), rel=BETWEEN_RUNGS
        )


def test_a_limit_beside_operations_binds_where_it_is_the_lower_one():
    config = load_config("vmamba_tiny_s1l8")
    operations = Band("flops", 0.95 * 4.5e9, 4.5e9)
    alone = fit_widths(config, [operations])
    now = spent_of(alone, [metered(0, 1)], 224, "fvcore")[0]
    assert fit_widths(config, [operations, metered(0, 1.01 * now)]) == alone
    tighter = fit_widths(config, [operations, metered(0, 0.97 * now)])
    flops, time = spent_of(tighter, [operations, metered(0, 1)], 224, "fvcore")
    assert 0.95 * 4.5e9 <= flops <= 4.5e9 and time <= 0.97 * now
    with pytest.raises(UnreachableError, match=r"and at most 0\.\d+ms .* costs .* flops and .* ms"):
        fit_widths(config, [operations, metered(0, 0.01 * now)])


def metered(lo, hi, metric="latency"):
    return MeteredBand(metric, lo, hi, PieceMeter(amount_of))


def test_what_is_known_is_not_measured_again():
    counted, config = Counted(), load_config("mambaout_femto")
    meter = PieceMeter(Remembering(counted))
    for high in (10, 11, 12, 13, 20):
        fit_widths(config, [MeteredBand("latency", 0.95 * high, high, meter)])
    assert set(counted.asked.values()) == {1}
    assert len(counted.asked) < 100


class Remembering(dict):
    def __init__(self, measure):
        self.measure = measure

    def __call__(self, piece):
        if piece.key not in self:
            self[piece.key] = self.measure(piece)
        return self[piece.key]


def test_widths_that_a_part_cannot_have_are_passed_over():
    data = load_config("mambaout_femto").to_dict()
    data["blocks"] = {"a": {"mixer": {"kind": "attention", "head_dim": 40}}}
    for stage, width in zip(data["stages"], (40, 80, 160, 320)):
        stage.update(width=width, pattern="a")
    config = type(load_config("mambaout_femto")).model_validate(data)
    counted = Counted()
    widths = [40, 120, 200, 440]
    found = PieceMeter(Remembering(counted))(config, 224)(widths)
    assert found == pytest.approx(exact(config, widths), rel=2 * BETWEEN_RUNGS)


def test_unreachable_latency_names_the_nearest():
    with pytest.raises(UnreachableError, match=r"no width reaches 0\.0095-0\.01ms .* costs .* ms;"):
        fit_widths(load_config("mambaout_femto"), [metered(0.0095, 0.01)])
    with pytest.raises(UnreachableError, match=r"costs [\d.]+ GiB .*, outside 95-100MiB; this"):
        big = MeteredBand("memory", 95 * 2**20, 100 * 2**20, PieceMeter(lambda piece: 2.0**30))
        check_bands(load_config("mambaout_femto"), [big])


def test_a_measured_band_says_what_measures_it():
    with pytest.raises(SpaceError, match="must say what measures it; use MeteredBand"):
        fit_widths(load_config("mambaout_femto"), [Band("latency", 7, 8)])


def test_pieces_that_compute_alike_have_one_key():
    keys = {}
    for name in ("vmamba_tiny_s1l8", "vmamba_small_s1l20"):  # of these the depths differ
        config = load_config(name).model_copy(update={"name": "another", "drop_path_rate": 0.3})
        keys[name] = {piece.key for piece, _, _ in pieces(config, 224)}
    assert keys["vmamba_tiny_s1l8"] == keys["vmamba_small_s1l20"]
    other = {piece.key for piece, _, _ in pieces(load_config("vmamba_tiny_s1l8"), 256)}
    assert not keys["vmamba_tiny_s1l8"] & other
