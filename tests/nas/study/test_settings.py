"""What a study is, apart from where it runs: checked, stored, compared."""

import json

import pytest
from doubles import settings

from nas.errors import StudyError
from nas.study import budget
from nas.study.budget import parse_budget
from nas.study.place import Place
from nas.study.settings import stored_settings

# SHA-256 of "7/bbb...", its upper 31 bits.
OLD_SEED = 832451436


def stored(made, **changes):
    data = json.loads(json.dumps(made.to_dict())) | changes
    return stored_settings(data, study="s", space=made.space, trials=made.trials, seed=made.seed)


def test_stored_settings_are_the_same_again():
    made = settings(trials=4, seed=3, objectives=("top1", "flops"), pruner="asha")
    assert stored(made) == made


def test_bands_do_not_move_with_the_default(monkeypatch):
    made = settings(budget=parse_budget(["4.5GFLOPs"]))
    monkeypatch.setattr(budget, "DEFAULT_LOW_SHARE", 0.5)
    assert stored(made).budget.bands[0].lo == pytest.approx(0.95 * 4.5e9)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"budgte": 1}, r"study settings: unknown field 'budgte'; study 's' was stored by another"),
        ({"budget": {"text": ["1G"]}}, r"field 'budget\.bands' is missing; study 's' was stored"),
        ({"recipe": {"epochs": 0}}, r"recipe\.epochs 0: Input should be greater than 0"),
        ({"recipe": {"lr_": 0}}, r"unknown field 'recipe\.lr_'"),
        (
            {"image_size": "big"},
            r"image_size 'big': image size 'big' must be a side or HEIGHTxWIDTH",
        ),
        ({"objectives": ["flops"]}, r"objectives 'flops' must begin with top1"),
        ({"objectives": ["top1", "speed"]}, r"unknown objective 'speed' \(known: top1, flops"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_stored_field_that_cannot_be_read_is_named(change, says):
    with pytest.raises(StudyError, match=says):
        stored(settings(), **change)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"trials": -1}, "trials -1: Input should be greater than or equal to 0"),
        ({"warm_start": "x"}, "warm_start 'x': Input should be 'presets' or 'none'"),
        ({"seed": -1}, "seed -1: Input should be greater than or equal to 0"),
        ({"device": "cpu"}, "unknown field 'device'"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_wrong_settings_are_refused(change, says):
    with pytest.raises(StudyError, match=says):
        settings(**change)


def test_place_takes_from_an_earlier_one_what_it_does_not_state():
    first = Place.of(device="cuda", backend="triton", timeout_s=60, data_dir=None)
    place = Place.of(timeout_s=5, data_dir="/here").over(first)
    assert (place.device, place.backend, place.timeout_s) == ("cuda", "triton", 5)
    assert place.recipe(settings().recipe).data_dir == "/here"
    assert first.recipe(settings().recipe) == settings().recipe
    with pytest.raises(StudyError, match=r"trial_timeout_s -1: Input should be greater than 0"):
        Place.of(trial_timeout_s=-1)


def test_designs_share_the_seeds_of_a_new_study():
    made = settings(seed=7)
    assert made.training_seed("a" * 64) == made.training_seed("b" * 64) < 2**31
    assert made.training_seed("a" * 64) != settings(seed=8).training_seed("a" * 64)
    many = {made.training_seed("a" * 64, index) for index in range(20)}
    assert len(many) == 20


def test_old_studies_keep_a_seed_for_each_design():
    """Pinned: what `resume` of a study of before must train with."""
    old = settings(seed=7, seeds="per design")
    assert old.training_seed("b" * 64) == OLD_SEED
    assert old.training_seed("a" * 64) != OLD_SEED
