"""Data: deterministic, disjoint, and every mistake named."""

import os
import sys

import numpy as np
import pytest
import torch
from contributing import code
from dataset_conformance import CHECKS
from PIL import Image

from nas.errors import DataError
from nas.study.recipe import Recipe
from nas.training.data import digits, registry
from nas.training.data.catalog import check_data, load_data
from nas.training.data.digits import digit_pool
from nas.training.data.draws import Draw
from nas.training.data.registry import list_datasets
from nas.training.data.scenes import draw as draw_scenes

SMALL = Recipe(train_size=64, val_size=32)


def folder(path, classes=("cat", "dog"), each=30, size=20):
    for c, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        for i in range(each):
            pixels = np.full((size, size + 4, 3), 40 * c + i, dtype=np.uint8)
            Image.fromarray(pixels).save(path / name / f"{i:03}.png")
    return path


# --- generated ---------------------------------------------------------------------------------


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", [info.name for info in list_datasets()])
def test_generated_set_conforms(name, check):
    check(name)


@pytest.fixture
def stripes(tmp_path, monkeypatch):
    """Carry out the exercise of CONTRIBUTING.md, the module as its author wrote it."""

    def add(change=lambda text: text):
        module, registration = code("Add a data set")
        (tmp_path / "stripes_exercise.py").write_text(change(module))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "stripes_exercise", raising=False)
        monkeypatch.setattr(registry, "_DATASETS", dict(registry._DATASETS))
        line = registration.replace("nas.training.data.stripes", "stripes_exercise")
        exec(line, {"register": registry.register})
        return "stripes"

    return add


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_set_of_the_exercise_conforms(stripes, check):
    check(stripes())


def test_set_of_the_exercise_is_listed_and_loaded(stripes):
    name = stripes()
    assert name in [info.name for info in list_datasets()]
    assert load_data(SMALL.model_copy(update={"dataset": name})).num_classes == 2


@pytest.mark.parametrize(
    ("right", "wrong", "check"),
    [
        ("ask.uniforms(64, index, 2)", "np.random.rand(len(index), 2)", "check_image_depends"),
        ("ask.uniforms(64, index, 2)", "uniforms(0, 64, index, 2)", "check_splits"),
        ("< 0.5", "< 2", "check_labels"),
        (".long()", ".long() + 1", "check_labels"),
        ("torch.uint8", "torch.float32", "check_shapes"),
        ("ask.side)[", "32)[", "check_shapes"),
    ],
    ids=["unseeded", "one_split", "one_class", "out_of_range", "float", "one_size"],
)
def test_wrong_set_is_caught(stripes, right, wrong, check):
    text = code("Add a data set")[0]
    assert right in text
    name = stripes(
        lambda text: text.replace(right, wrong).replace(
            "import Draw", "import Draw, uniforms  # noqa: F401"
        )
    )
    [suite] = [c for c in CHECKS if c.__name__.startswith(check)]
    with pytest.raises((AssertionError, RuntimeError)):
        suite(name)


def test_second_registration_of_a_name_is_refused():
    with pytest.raises(ValueError, match="'digits' is registered already"):
        registry.register("digits", "x", "y", in_chans=1, sizes=(1, 1, 1))


def scenes(size, side=32, difficulty=2, split="train"):
    return draw_scenes(Draw("classify", split, size, side, 8, 0, difficulty, 0.1))[0]


def test_chunks_do_not_change_the_images(monkeypatch):
    whole = scenes(30)
    monkeypatch.setattr("nas.training.data.scenes._CHUNK_PIXELS", 32 * 32 * 7)
    assert torch.equal(scenes(30), whole)


@pytest.mark.parametrize("seed", [0, 1, 99])
def test_splits_show_disjoint_digits(seed):
    pools = [set(digit_pool(split, seed)) for split in ("train", "val", "test")]
    assert sum(len(p) for p in pools) == len(set.union(*pools)) == 1797
    assert min(len(p) for p in pools) > 300


def test_harder_scenes_show_smaller_digits(monkeypatch):
    shown = {d: scenes(100, difficulty=d) for d in (1, 2, 3, 4)}
    images, labels = digits.raw_digits()
    blank = lambda: (torch.zeros_like(images), labels)  # noqa: E731
    monkeypatch.setattr("nas.training.data.scenes.raw_digits", blank)
    inked = [(shown[d] != scenes(100, difficulty=d)).float().mean() for d in (1, 2, 3, 4)]
    assert inked == sorted(inked, reverse=True)
    assert inked[0] > 2 * inked[3]


def test_load_is_cached_and_check_of_generated_sets_draws_nothing(monkeypatch):
    assert load_data(SMALL) is load_data(SMALL)
    monkeypatch.setattr(registry.DatasetInfo, "draw", lambda *a: pytest.fail("drew images"))
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
    with pytest.raises(DataError, match=r"'zzz'.*digits, photographs, relations, scenes"):
        check_data(Recipe(dataset="zzz"))


def test_too_large_and_too_small_sets_are_refused():
    with pytest.raises(DataError, match=r"train_size 100000000"):
        check_data(Recipe(train_size=100_000_000))
    with pytest.raises(DataError, match=r"val_size 3"):
        check_data(Recipe(val_size=3))


def test_set_without_labels_for_a_task_says_what_it_serves():
    with pytest.raises(DataError, match=r"'photographs' has no labels to classify; .*reconstruct"):
        check_data(Recipe(dataset="photographs"))
    with pytest.raises(DataError, match=r"'digits' has no labels to dense"):
        check_data(Recipe(task="dense", dataset="digits"))


def test_mirroring_is_refused_where_it_changes_the_labels():
    with pytest.raises(DataError, match=r"augment flip.*'relations'.*augment: none"):
        check_data(Recipe(task="dense", augment="flip"))


# --- the test split ----------------------------------------------------------------------------


def rows(images):
    return {image.numpy().tobytes() for image in images}


@pytest.mark.parametrize("name", ["digits", "photographs"])
def test_test_split_shares_nothing_and_leaves_the_rest(name):
    recipe = SMALL.model_copy(update={"dataset": name, "task": "reconstruct"})
    usual, test = load_data(recipe), load_data(recipe, split="test")
    assert torch.equal(usual.train_x, test.train_x)
    assert not rows(test.val_x) & (rows(usual.val_x) | rows(usual.train_x))


def test_folder_without_a_test_part_gives_up_training_images(tmp_path):
    path = folder(tmp_path / "pets")
    recipe = Recipe(dataset=f"folder:{path}", image_size=16, train_size=None, val_size=None)
    usual, test = load_data(recipe), load_data(recipe, split="test")
    assert [len(x.train_y) for x in (usual, test)] == [48, 36]
    assert len(test.val_y) == 12
    assert not rows(test.val_x) & (rows(usual.val_x) | rows(test.train_x))


@pytest.mark.parametrize("name", ["test", "val"])
def test_part_that_a_folder_keeps_apart_is_the_test(tmp_path, name):
    folder(tmp_path / "train")
    folder(tmp_path / name, size=40)
    recipe = Recipe(dataset=f"folder:{tmp_path}", image_size=16, val_size=None)
    usual, test = load_data(recipe), load_data(recipe, split="test")
    assert torch.equal(usual.train_x, test.train_x)
    assert len(usual.val_y) == 12 and len(test.val_y) == 60


def test_test_part_of_other_classes_is_refused(tmp_path):
    folder(tmp_path / "train")
    folder(tmp_path / "test", classes=("cat", "cow"))
    with pytest.raises(DataError, match=r"hold other classes; give both the same"):
        load_data(Recipe(dataset=f"folder:{tmp_path}", image_size=16), split="test")


# --- masks -------------------------------------------------------------------------------------

DENSE = Recipe(task="dense", dataset="folder:seg", image_size=16, stem_stride=4)


def masked(path, count=45, mode="P", size=(16, 16)):
    """A folder of images, dark above and bright below, and their masks."""
    for name in ("images", "masks"):
        (path / "seg" / name).mkdir(parents=True)
    for i in range(count):
        pixels = np.zeros((*size, 3), dtype=np.uint8)
        edge = 4 + 4 * (i % 2)
        pixels[edge:] = 200 + i
        Image.fromarray(pixels).save(path / "seg" / "images" / f"{i:02}.png")
        mask = Image.fromarray((pixels[..., 0] > 0).astype(np.uint8))
        if mode == "P":
            mask.putpalette([0, 0, 0, 255, 0, 0])
        assert mask.mode == mode
        mask.save(path / "seg" / "masks" / f"{i:02}.png")
    return path / "seg"


def dense(path, **changes):
    recipe = DENSE.model_copy(update={"data_dir": str(path), **changes})
    check_data(recipe)
    return load_data(recipe)


@pytest.mark.parametrize("mode", ["P", "L"])
def test_masks_become_labels_of_tokens(tmp_path, mode):
    masked(tmp_path, mode=mode)
    data = dense(tmp_path)
    assert data.train_y.shape == (36, 1, 4, 4)
    assert data.classes == ("0", "1")
    bright = data.train_x[:, 0, ::4, ::4] > 100
    assert torch.equal(data.train_y[:, 0] == 1, bright)


def test_unlabeled_pixels_count_nowhere_and_the_majority_wins(tmp_path):
    path = masked(tmp_path)
    for file in (path / "masks").iterdir():
        mask = np.asarray(Image.open(file)).copy()
        mask[:, :4] = 255  # the first column of tokens
        mask[12:, 12:15] = 0  # three quarters of the last token
        mask[0, 15] = 255
        Image.fromarray(mask).save(file)
    labels = dense(tmp_path).train_y[:, 0]
    assert (labels[:, :, 0] == -1).all()
    assert (labels[:, 3, 3] == 0).all()
    assert (labels[:, 3, 1:3] == 1).all() and (labels[:, 0, 1:] == 0).all()


def test_named_classes_are_taken(tmp_path):
    (masked(tmp_path) / "classes.txt").write_text("sky\nground\nsea\n")
    assert dense(tmp_path).classes == ("sky", "ground", "sea")


def spoil(path, what):
    mask = path / "masks" / "07.png"
    if what == "missing":
        mask.unlink()
    elif what == "size":
        Image.new("P", (16, 12)).save(mask)
    elif what == "mode":
        Image.new("RGB", (16, 16)).save(mask)
    elif what == "range":
        (path / "classes.txt").write_text("a\nb\n")
        Image.new("L", (16, 16), 7).save(mask)
    elif what == "broken":
        mask.write_bytes(b"no image")
    elif what == "one class":
        for file in (path / "masks").iterdir():
            Image.new("P", (16, 16), 0).save(file)
    elif what == "no masks":
        (path / "masks").rename(path / "labels")
    elif what == "no images":
        for file in (path / "images").iterdir():
            file.unlink()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("missing", r"images/07\.png' has no mask .*masks/07\.png'; add it or remove the image"),
        ("size", r"masks/07\.png' is 16 x 12 pixels, its image 16 x 16; save both"),
        ("mode", r"masks/07\.png' is of mode RGB; save it as an indexed"),
        ("range", r"masks/07\.png' holds class 7, classes\.txt names 2 \(0 to 1\); name all"),
        ("broken", r"masks/07\.png' cannot be decoded"),
        ("one class", r"show one class to train on; two or more are needed"),
        ("no masks", r"seg' holds no masks/; give one with images/ and masks/"),
        ("no images", r"images' holds no image .*another folder:PATH"),
    ],
)
def test_bad_masks_are_named(tmp_path, what, said):
    spoil(masked(tmp_path), what)
    with pytest.raises(DataError, match=said) as caught:
        dense(tmp_path)
    assert "\n" not in str(caught.value)


def test_class_that_only_the_scored_images_show_is_refused(tmp_path):
    path = masked(tmp_path)
    for file in sorted((path / "masks").iterdir())[::5]:
        Image.new("L", (16, 16), 5).save(file)
    with pytest.raises(
        DataError, match=r"show class 5 to be scored and none above 1.*classes\.txt"
    ):
        dense(tmp_path, train_size=8, data_seed=seed_that_trains_without_class_5(path))


def seed_that_trains_without_class_5(path):
    from nas.training.data.draws import permutation

    for seed in range(500):
        order = permutation(45, seed)
        if all(n % 5 for n in order[9:17]) and not all(n % 5 for n in order[:9]):
            return seed
    raise AssertionError("no such seed")


def test_timm_sets_have_no_masks(tmp_path):
    with pytest.raises(DataError, match=r"'torch/cifar10' has no label per token; give folder:"):
        check_data(Recipe(task="dense", dataset="torch/cifar10"))


# --- unlabeled ---------------------------------------------------------------------------------


def test_any_folder_of_images_can_be_reconstructed(tmp_path):
    folder(tmp_path / "deep" / "er", classes=("one",), each=45)
    recipe = Recipe(task="reconstruct", dataset=f"folder:{tmp_path}", image_size=16)
    data = load_data(recipe)
    assert data.train_x.shape == (36, 3, 16, 16) and data.labels == ()


def test_folder_without_images_is_named(tmp_path):
    (tmp_path / "note.txt").write_text("nothing here")
    with pytest.raises(DataError, match=r"holds no image .*give another folder:PATH"):
        check_data(Recipe(task="reconstruct", dataset=f"folder:{tmp_path}"))
