"""Labeled images that timm knows by name: torchvision's and the Hugging Face hub's."""

from __future__ import annotations

from typing import Any

from PIL import Image

from nas.errors import DataError
from nas.training.data.items import Items
from nas.training.data.registry import LabelMap, Wanted

# Names that timm may be asked for. Others can only be streamed (tfds/, hfids/, wds/), and some run
# what their location says: a `pipe:` of webdataset is a shell command.
_INDEXED = ("torch", "hfds")


def open_timm(wanted: Wanted) -> Items:
    """List the images of a timm data set's training split.

    Raises: DataError for one that cannot be opened, or that could do more than be read.
    """
    from timm.data import create_dataset

    name = wanted.part.dataset
    prefix = name.partition("/")[0].lower()
    if prefix not in _INDEXED:
        raise DataError(
            f"dataset {name!r}: only {' and '.join(f'{p}/...' for p in _INDEXED)} can be read by "
            "index; unpack the images and give folder:PATH"
        )
    if prefix == "hfds" and not wanted.download:
        # timm passes no such flag on, and the hub is asked even for what is cached.
        raise DataError(
            f"dataset {name!r} may be downloaded, and download is false; set download: true in "
            "the recipe, or unpack the images and give folder:PATH"
        )
    if wanted.part.task == "dense":
        raise DataError(
            f"dataset {name!r} has no label per token; give folder:PATH with images/ and masks/"
        )
    try:
        # Readers of files and torchvision both raise nearly anything; each means the same here.
        data: Any = create_dataset(
            name, root=wanted.data_dir, split="train", download=wanted.download
        )
        count = len(data)
        first = data[0][0] if count else None
    except ImportError:
        raise DataError(
            f"dataset {name!r} needs a package that is not installed; pip install 'scannas[hub]'"
        ) from None
    except Exception as exc:
        reason = (str(exc).splitlines() or [type(exc).__name__])[0]
        raise DataError(
            f"dataset {name!r} cannot be read from data_dir {wanted.data_dir!r}: "
            f"{reason.rstrip('.')}; give --data-dir, or download: true in the recipe"
        ) from None
    if not isinstance(first, Image.Image):
        raise DataError(f"dataset {name!r} holds no images; use one of labeled images")
    items = Items(name, count, lambda n: data[n][0], lambda n: f"{name} image {n}")
    if wanted.part.task == "reconstruct":
        return items
    classes = _class_names(data, count)
    if len(classes) < 2:
        raise DataError(f"dataset {name!r} has {len(classes)} class, needs two or more")
    targets = getattr(data, "targets", None)
    return Items(
        name,
        count,
        items.read,
        items.name,
        label=lambda n: int(targets[n] if targets is not None else data[n][1]),
        labels=(LabelMap("class", classes),),
    )


def _class_names(data: Any, count: int) -> tuple[str, ...]:
    if (named := getattr(data, "classes", None)) is not None:
        return tuple(str(c) for c in named)
    indices = getattr(getattr(data, "reader", None), "class_to_idx", None)
    if indices:
        return tuple(sorted((str(k) for k in indices), key=lambda k: int(indices[k])))
    highest = max(int(data[n][1]) for n in range(count))
    return tuple(str(i) for i in range(highest + 1))
