"""What every generated data set must do; each check takes the name of a registered one."""

import inspect
import sys

import torch

from nas.training.data.draws import IGNORE, SPLITS, Draw
from nas.training.data.registry import find_dataset

SIDE, GRID = 32, 8


def drawn(info, task, split="train", size=40, seed=3, **changes):
    facts = {"side": SIDE, "grid": GRID, "difficulty": 2, "density": 0.2} | changes
    return info.draw(Draw(task=task, split=split, size=size, seed=seed, **facts))


def each(name):
    """Yield a data set and each task that it says it serves."""
    info = find_dataset(name)
    return [(info, task) for task in info.tasks]


def check_shapes_and_types(name):
    for info, task in each(name):
        for side, grid in ((32, 8), (48, 12), (20, 10)):
            images, labels = drawn(info, task, size=9, side=side, grid=grid)
            assert images.shape == (9, info.in_chans, side, side)
            assert images.dtype == torch.uint8
            if task == "dense":
                assert labels.shape == (9, len(info.maps), grid, grid)
                assert labels.dtype == torch.int16
            elif task == "classify":
                assert labels.shape == (9,)
                assert labels.dtype == torch.int64


def check_labels_are_in_range_and_all_occur(name):
    for info, task in each(name):
        _, labels = drawn(info, task, size=300)
        for i, known in enumerate(info.labels(task)):
            own = labels[:, i] if task == "dense" else labels
            shown = set(own.unique().tolist())
            allowed = {IGNORE} if task == "dense" else set()
            assert shown - allowed == set(range(len(known.classes))), known.name


def check_image_depends_on_seed_split_and_index_alone(name):
    for info, task in each(name):
        torch.manual_seed(1)
        few = drawn(info, task, size=5)
        torch.manual_seed(2)
        many = drawn(info, task, size=40)
        assert all(torch.equal(a, b[:5]) for a, b in zip(few, many))
        assert not torch.equal(few[0], drawn(info, task, size=5, seed=4)[0])
        assert not torch.equal(few[0], drawn(info, task, size=5, split="val")[0])


def check_splits_share_no_image(name):
    for info, task in each(name):
        shown = [
            {image.numpy().tobytes() for image in drawn(info, task, split, size=150)[0]}
            for split in SPLITS
        ]
        assert sum(map(len, shown)) == len(set.union(*shown))


def check_threads_do_not_change_the_images(name):
    before = torch.get_num_threads()
    try:
        for info, task in each(name):
            made = []
            for threads in (1, 2):
                torch.set_num_threads(threads)
                made.append(drawn(info, task))
            assert all(torch.equal(a, b) for a, b in zip(*made))
    finally:
        torch.set_num_threads(before)


CHECKS = [
    check
    for name, check in inspect.getmembers(sys.modules[__name__], inspect.isfunction)
    if name.startswith("check_")
]
