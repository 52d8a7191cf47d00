"""Reading a scan order as a user writes it: a kind, or a mapping in YAML."""

from __future__ import annotations

import yaml

from backbones.orders.base import ScanOrder
from backbones.yaml_files import reason
from nas.errors import StudyError


def read_order(text: str) -> ScanOrder:
    """Return the order that a kind or a mapping in YAML describes.

    Raises: StudyError with what is wrong in it.
    """
    from pydantic import TypeAdapter, ValidationError

    from backbones.orders.base import Order

    try:
        order: ScanOrder = TypeAdapter(Order).validate_python(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise StudyError(f"order {text!r} is no mapping: {str(error).splitlines()[0]}") from None
    except ValidationError as error:
        raise StudyError(f"order {text!r}: {reason(error)}") from None
    return order
