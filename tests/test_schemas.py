"""JSON Schemas of spaces, configs and recipes: shipped as they are, and true of what loads."""

import json
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from backbones import list_presets
from backbones.catalog import PRESETS
from backbones.json_schema import field_notes, json_schema
from backbones.registry import MIXERS, ORDERS
from nas.full_training.recipe import RECIPES, list_recipes
from nas.report.schemas import SORTS, schema_text
from nas.study.recipe import Recipe
from search_spaces import list_spaces

ROOT = Path(__file__).resolve().parents[1]
FILES = {
    "space": "search_spaces",
    "config": "backbones",
    "recipe": "nas/study",
    "training": "nas/full_training",
}


def shipped(sort):
    return ROOT / FILES[sort] / f"{sort}.schema.json"


def read(path):
    """A file as editors see it: keys are strings."""
    return json.loads(json.dumps(yaml.safe_load(path.read_text())))


def errors(sort, data):
    schema = json.loads(shipped(sort).read_text())
    return [e.message for e in Draft202012Validator(schema).iter_errors(data)]


@pytest.mark.parametrize("sort", SORTS)
def test_shipped_schema_is_what_the_models_say(sort):
    assert shipped(sort).read_text() == schema_text(sort), (
        f"{shipped(sort).name} is out of date: python cli.py schema {sort} > {shipped(sort)}"
    )
    Draft202012Validator.check_schema(json.loads(schema_text(sort)))


YAML = [("space", ROOT / "search_spaces" / f"{name}.yaml") for name in list_spaces()]
YAML += [("space", path) for path in sorted((ROOT / "search_spaces" / "ablations").glob("*.yaml"))]
YAML += [("config", PRESETS / f"{name}.yaml") for name in list_presets()]
YAML += [("training", RECIPES / f"{name}.yaml") for name in list_recipes()]


@pytest.mark.parametrize(("sort", "path"), YAML, ids=lambda value: getattr(value, "stem", None))
def test_shipped_files_are_valid_and_name_their_schema(sort, path):
    assert errors(sort, read(path)) == []
    named = re.match(r"# yaml-language-server: \$schema=(.*)\n", path.read_text())
    assert (path.parent / named[1]).resolve() == shipped(sort)


def test_recipe_as_it_is_recorded_is_valid():
    assert errors("recipe", json.loads(json.dumps(Recipe().to_dict()))) == []
    assert errors("recipe", {"epochs": 5}) == []


def test_examples_of_the_docs_are_valid():
    texts = {name: (ROOT / "docs" / f"{name}.md").read_text() for name in ("spaces", "proxies")}
    blocks = {n: re.findall(r"```yaml\n(.*?)```", t, re.S) for n, t in texts.items()}
    assert blocks["spaces"] and blocks["proxies"]
    for name, sort in (("spaces", "space"), ("proxies", "recipe")):
        for text in blocks[name]:
            assert errors(sort, json.loads(json.dumps(yaml.safe_load(text)))) == []


@pytest.mark.parametrize(
    ("sort", "change"),
    [
        ("config", lambda d: d.update(stemm="overlap")),
        ("config", lambda d: d["blocks"].update(x={"mixer": {"kind": "sssm"}})),
        ("config", lambda d: d["blocks"].update(x={"mixer": "routes"})),
        ("config", lambda d: d["blocks"].update(x={"mixer": {"order": "cross"}})),
        ("config", lambda d: d["stages"][0].update(width=0)),
        ("space", lambda d: d.update(schema=2)),
        ("space", lambda d: d["choices"].update(x={"range": [1]})),
        ("space", lambda d: d["base"]["stages"][0].update(dept=2)),
    ],
)
def test_mistakes_are_seen_by_an_editor(sort, change):
    path = {
        "config": PRESETS / "vmamba_tiny_s1l8.yaml",
        "space": ROOT / "search_spaces/hybrid.yaml",
    }
    data = read(path[sort])
    assert errors(sort, data) == []
    change(data)
    assert errors(sort, data)


def test_every_part_is_offered():
    schema = json.loads(shipped("config").read_text())
    kinds = {
        part["properties"]["kind"]["const"]
        for part in schema["$defs"].values()
        if "const" in part.get("properties", {}).get("kind", {})
    }
    assert kinds >= {*MIXERS.places, *ORDERS.places}


def test_every_field_of_a_file_is_described():
    for sort in SORTS:
        schema = json.loads(shipped(sort).read_text())
        parts = {sort: schema} | {
            name: schema["$defs"][name]
            for name in ("ChoiceEntry", "FitEntry", "BlockConfig", "StageConfig", "SSMConfig")
            if name in schema["$defs"]
        }
        for name, part in parts.items():
            without = [k for k, v in part["properties"].items() if not v.get("description")]
            assert set(without) <= {"kind", "schema"}, name


def test_fields_are_found_in_a_docstring():
    text = """What.

    width: channels. depth: how many; not 0: none.
    a, b: two of
        them. other: no field.

    Elsewhere.
    Source: a paper.
    """
    assert field_notes(text, {"width", "depth", "a", "b"}) == {
        "width": "channels.",
        "depth": "how many; not 0: none.",
        "a": "two of them. other: no field.",
        "b": "two of them. other: no field.",
    }


def test_a_part_registered_by_a_user_is_in_the_schema(monkeypatch):
    from backbones.orders.zorder import ZOrder

    class Mine(ZOrder):
        kind: str = "mine"

    monkeypatch.setitem(ORDERS.places, "mine", "x:Mine")
    monkeypatch.setattr(
        ORDERS, "load", lambda kind, load=ORDERS.load: Mine if kind == "mine" else load(kind)
    )
    from backbones.config import BackboneConfig

    assert "Mine" in json_schema(BackboneConfig, "x")["$defs"]
