"""`profile --verify`: what is counted is what is built and traced."""

from dataclasses import replace

import pytest

from backbones import list_presets
from nas.errors import StudyError
from nas.report import architectures
from nas.report.architectures import profile

SIDE = 64  # every block is traced at any size, and counts are compared at this one


@pytest.mark.parametrize("preset", list_presets())
def test_verify_is_exact_on_every_preset(preset):
    report = profile(preset, image_size=SIDE, verify=True)
    assert report["verified"] == {"params": report["params"], "fvcore_flops": report["flops"]}


@pytest.mark.parametrize("what", ["params", "flops"])
def test_verify_tells_a_count_that_lies(what, monkeypatch):
    count = architectures.cost

    def lie(*args, **options):
        said = count(*args, **options)
        return replace(said, **{what: getattr(said, what) + 1})

    monkeypatch.setattr(architectures, "cost", lie)
    name = {"params": "parameters", "flops": "fvcore FLOPs"}[what]
    with pytest.raises(StudyError, match=rf"has \d+ {name}, the analytic count is \d+; report"):
        profile("mambaout_femto", image_size=SIDE, verify=True)
