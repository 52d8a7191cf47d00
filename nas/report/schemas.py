"""The JSON Schemas of the files that people write: spaces, configs, recipes of both sorts."""

from __future__ import annotations

import json
from typing import Literal

from backbones.json_schema import json_schema
from backbones.registry import imported

Sort = Literal["space", "config", "recipe", "training"]
SORTS: dict[Sort, str] = {
    "space": "search_spaces.language:SpaceFile",
    "config": "backbones.config:BackboneConfig",
    "recipe": "nas.study.recipe:Recipe",
    "training": "nas.full_training.recipe:TrainingRecipe",
}


def schema_text(sort: Sort) -> str:
    """Return a schema as JSON; it holds the parts that are registered now."""
    schema = json_schema(imported(SORTS[sort]), title=f"ScanNAS {sort}")
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
