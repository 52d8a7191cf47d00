"""`train` and `evaluate` as they are typed."""

import json
import sys

import pytest
from small import images, tiny

from nas.commands.main import main


@pytest.fixture
def call(monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["cli.py", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return run


def test_weights_are_trained_and_evaluated(call, tmp_path):
    arch, data = tiny(tmp_path), images(tmp_path / "images", 60)
    given = [arch, "--data", data]
    options = "--epochs 1 --image-size 32 --batch-size 16 --threads 1".split()
    code, out, err = call("train", *given, *options, "--out", tmp_path / "out")
    assert code == 0, err
    assert "epoch   1/1  loss " in out
    assert "test split: loss" in out
    weights = ["--weights", tmp_path / "out" / "weights.safetensors"]
    code, out, err = call("evaluate", *given, *weights, "--sizes", "32,48", "--json")
    assert code == 0, err
    assert [row["image_size"] for row in json.loads(out)["sizes"]] == [32, 48]


@pytest.mark.parametrize(
    "words, said",
    [
        (["train", "--data", "digits", "--recipe", "diet"], "did you mean 'deit'"),
        (["train", "--data", "photographs"], "there are no labels"),
        (["evaluate", "mambaout_femto", "--data", "digits"], "give --weights FILE"),
    ],
)
def test_mistakes_are_one_line(call, words, said):
    code, _, err = call(*words)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
