"""Data: deterministic, disjoint, and every mistake named."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from nas.errors import DataError
from nas.study.recipe import Recipe
from nas.training.data import catalog as datasets
from nas.training.data import digits
from nas.training.data.catalog import check_data, list_datasets, load_data, make_split
from nas.training.data.digits import digit_pool, make_scenes
from nas.training.data.patterns import make_patterns

SMALL = Recipe(train_size=64, val_size=32)


def folder(path, classes=("cat", "dog"), each=30, size=20):
    for c, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        for i in range(each):
            pixels = np.full((size, size + 4, 3), 40 * c + i, dtype=np.uint8)
            Image.fromarray(pixels).save(path / name / f"{i:03}.png")
    return path


@pytest.mark.parametrize("name", ["digits", "scenes", "patterns"])
def test_generated_sets_have_the_promised_shapes(name):
    data = load_data(SMALL.model_copy(update={"dataset": name}))
    info = datasets.BUILT_IN[name]
    assert data.train_x.shape == (64, info.in_chans, SMALL.image_size, SMALL.image_size)
    assert data.train_x.dtype == torch.uint8
    assert data.val_y.shape == (32,)
    assert data.num_classes == info.num_classes
    assert data.in_chans == info.in_chans
    assert 0 <= int(data.train_y.min()) and int(data.train_y.max()) < data.num_classes


@pytest.mark.parametrize("make", [make_scenes, make_patterns])
@pytest.mark.parametrize("size", [16, 48])
def test_image_depends_on_seed_split_and_index_alone(make, size):
    few, few_labels = make("train", 5, size, 3, 2)
    many, many_labels = make("train", 40, size, 3, 2)
    assert torch.equal(few, many[:5])
    assert torch.equal(few_labels, many_labels[:5])
    assert not torch.equal(few, make("train", 5, size, 4, 2)[0])
    assert not torch.equal(few, make("val", 5, size, 3, 2)[0])


def test_chunks_do_not_change_the_images(monkeypatch):
    whole = make_scenes("train", 30, 32, 0, 2)[0]
    monkeypatch.setattr("nas.training.data.digits._CHUNK_PIXELS", 32 * 32 * 7)
    assert torch.equal(make_scenes("train", 30, 32, 0, 2)[0], whole)


def test_thread_count_does_not_change_the_images():
    before = torch.get_num_threads()
    images = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            images.append(make_scenes("val", 40, 32, 5, 3)[0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*images)


@pytest.mark.parametrize("seed", [0, 1, 99])
def test_splits_show_disjoint_digits(seed):
    pools = [set(digit_pool(split, seed)) for split in ("train", "val", "test")]
    assert sum(len(p) for p in pools) == len(set.union(*pools)) == 1797
    assert min(len(p) for p in pools) > 300


def test_plain_digits_of_two_splits_share_no_image():
    recipe = Recipe(dataset="digits", image_size=16)
    parts = [make_split(recipe, split, None)[0].flatten(1) for split in ("train", "val", "test")]
    rows = [{row.numpy().tobytes() for row in part} for part in parts]
    assert not rows[0] & rows[1] and not rows[0] & rows[2] and not rows[1] & rows[2]


def test_harder_scenes_show_smaller_digits(monkeypatch):
    shown = {d: make_scenes("train", 100, 32, 0, d)[0] for d in (1, 2, 3, 4)}
    images, labels = digits._raw()
    monkeypatch.setattr(digits, "_raw", lambda: (torch.zeros_like(images), labels))
    inked = [
        (shown[d] != make_scenes("train", 100, 32, 0, d)[0]).float().mean() for d in (1, 2, 3, 4)
    ]
    assert inked == sorted(inked, reverse=True)
    assert inked[0] > 2 * inked[3]


def test_patterns_cover_all_classes_and_keep_the_beacon_on_its_side():
    images, labels = make_patterns("train", 400, 48, 0, 1)
    assert len(labels.unique()) == 16
    # The beacon is yellow: the only place with much red and green and little blue.
    red, green, blue = images.float().unbind(1)
    yellow = (red + green - 2 * blue).flatten(1).argmax(1)
    x, y = yellow % 48, yellow // 48
    relation = labels % 4
    ahead = {0: x, 1: 47 - x, 2: y, 3: 47 - y}
    for side, place in ahead.items():
        # Beacons lie at half of the side or more, stripes at half of it or less.
        assert (place[relation == side] >= 22).all()


def test_listing_names_every_generated_set():
    assert [d.name for d in list_datasets()] == ["digits", "patterns", "scenes"]


def test_load_is_cached_and_check_of_generated_sets_draws_nothing(monkeypatch):
    assert load_data(SMALL) is load_data(SMALL)
    monkeypatch.setattr(datasets, "_generate", lambda *a: pytest.fail("drew images"))
    check_data(Recipe(dataset="scenes", data_seed=77))


# --- files -------------------------------------------------------------------------------------


def test_folder_is_split_without_overlap(tmp_path):
    path = folder(tmp_path / "pets")
    data = load_data(Recipe(dataset=f"folder:{path}", image_size=16, train_size=None))
    assert data.classes == ("cat", "dog")
    assert len(data.train_y) == 48 and len(data.val_y) == 12
    rows = [{r.numpy().tobytes() for r in x.flatten(1)} for x in (data.train_x, data.val_x)]
    assert not rows[0] & rows[1]
    # Every pixel says which class it came from.
    assert ((data.train_x[:, 0, 0, 0] >= 40) == (data.train_y == 1)).float().mean() == 1


def test_validation_images_do_not_depend_on_the_sizes(tmp_path):
    path = folder(tmp_path / "pets")
    recipe = Recipe(dataset=f"folder:{path}", image_size=16, train_size=20)
    more = recipe.model_copy(update={"train_size": 40})
    assert torch.equal(load_data(recipe).val_x, load_data(more).val_x)


def test_folder_with_a_train_part_uses_that_alone(tmp_path):
    folder(tmp_path / "set" / "train")
    folder(tmp_path / "set" / "val", classes=("cat", "dog", "cow"))
    data = load_data(Recipe(dataset="folder:set", data_dir=str(tmp_path), image_size=16))
    assert data.classes == ("cat", "dog")


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.*one subfolder"):
        check_data(Recipe(dataset=f"folder:{tmp_path}/nowhere"))


def test_single_class_is_refused(tmp_path):
    folder(tmp_path / "one", classes=("cat",))
    with pytest.raises(DataError, match=r"one' holds 1 class"):
        check_data(Recipe(dataset=f"folder:{tmp_path}/one"))


def test_empty_class_is_named(tmp_path):
    path = folder(tmp_path / "pets")
    (path / "eel").mkdir()
    with pytest.raises(DataError, match=r"eel' holds no image"):
        check_data(Recipe(dataset=f"folder:{path}"))


@pytest.mark.parametrize("damage", ["garbage", "truncated", "empty"])
def test_corrupt_image_is_named(tmp_path, damage):
    path = folder(tmp_path / "pets")
    victim = path / "dog" / "007.png"
    whole = victim.read_bytes()
    victim.write_bytes(
        {"garbage": b"no image", "truncated": whole[: len(whole) // 2], "empty": b""}[damage]
    )
    with pytest.raises(DataError, match=r"dog/007\.png' cannot be decoded"):
        check_data(Recipe(dataset=f"folder:{path}", train_size=None, val_size=None))


def test_unreadable_image_is_named(tmp_path):
    path = folder(tmp_path / "pets")
    victim = path / "cat" / "003.png"
    victim.unlink()
    os.symlink(tmp_path / "gone.png", victim)
    with pytest.raises(DataError, match=r"cat/003\.png' cannot be decoded"):
        check_data(Recipe(dataset=f"folder:{path}", train_size=None, val_size=None))


def test_too_few_images_are_refused(tmp_path):
    path = folder(tmp_path / "pets", each=5)
    with pytest.raises(DataError, match=r"holds 10 images"):
        check_data(Recipe(dataset=f"folder:{path}"))


def test_gray_and_transparent_images_become_rgb(tmp_path):
    path = folder(tmp_path / "pets")
    Image.new("L", (20, 20), 9).save(path / "cat" / "000.png")
    Image.new("RGBA", (20, 30), (1, 2, 3, 4)).save(path / "cat" / "001.png")
    Image.new("P", (9, 9)).save(path / "cat" / "002.png")
    data = load_data(Recipe(dataset=f"folder:{path}", image_size=16))
    assert data.train_x.shape[1:] == (3, 16, 16)


def test_timm_name_without_files_says_how_to_get_them(tmp_path):
    with pytest.raises(DataError, match=r"torch/cifar10.*--data-dir"):
        check_data(Recipe(dataset="torch/cifar10", data_dir=str(tmp_path)))


@pytest.mark.parametrize("prefix", ["wds", "WDS", "tfds", "hfids", "no"])
def test_recipe_cannot_run_a_command_or_open_a_stream(tmp_path, monkeypatch, prefix):
    """timm hands data_dir to webdataset, for which `pipe:` begins a shell command."""
    monkeypatch.setattr("timm.data.create_dataset", lambda *a, **k: pytest.fail("timm was asked"))
    recipe = Recipe(dataset=f"{prefix}/x", data_dir=f"pipe:touch {tmp_path}/ran #", download=True)
    with pytest.raises(DataError, match=rf"'{prefix}/x': only torch/.* hfds/.*give folder:PATH"):
        check_data(recipe)


def test_hub_is_not_asked_where_download_is_false(monkeypatch):
    asked = []
    monkeypatch.setattr("timm.data.create_dataset", lambda *a, **k: asked.append(a) or [])
    with pytest.raises(DataError, match=r"'hfds/a/b' may be downloaded.*download: true"):
        check_data(Recipe(dataset="hfds/a/b"))
    assert not asked
    with pytest.raises(DataError):  # an empty set
        check_data(Recipe(dataset="hfds/a/b", download=True))
    assert asked


def test_timm_folder_reader_is_read(tmp_path):
    folder(tmp_path / "train")
    data = load_data(Recipe(dataset="torch/image_folder", data_dir=str(tmp_path), image_size=16))
    assert data.classes == ("cat", "dog")
    assert len(data.val_y) == 12


def test_unknown_name_gets_the_nearest():
    with pytest.raises(DataError, match=r"'scene'.*'scenes'"):
        check_data(Recipe(dataset="scene"))
    with pytest.raises(DataError, match=r"'zzz'.*digits, patterns, scenes"):
        check_data(Recipe(dataset="zzz"))


def test_too_large_and_too_small_sets_are_refused():
    with pytest.raises(DataError, match=r"train_size 100000000"):
        check_data(Recipe(train_size=100_000_000))
    with pytest.raises(DataError, match=r"val_size 3"):
        check_data(Recipe(val_size=3))


def test_generated_set_only_for_make_split(tmp_path):
    with pytest.raises(DataError, match="not generated"):
        make_split(Recipe(dataset=f"folder:{tmp_path}"), "test", 3)
