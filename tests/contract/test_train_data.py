"""What is trained on: shards, digits, held-out shares, batches and their variation."""

import io
import itertools
import tarfile
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from edgese.data.augmentation import augmented, rectangle
from edgese.data.classes import UNLABELLED, ClassNames
from edgese.data.digits import digit_pictures
from edgese.data.embedded import sample_pictures
from edgese.data.preprocessing import cropped, preprocess
from edgese.data.shards import is_shards, shard_pictures
from edgese.data.sources import find_pictures, held_out
from edgese.errors import ConfigError, InputError
from edgese.records.model import Preprocessing
from edgese.records.training import (
    Augmentation,
    CenterCrop,
    Cosine,
    PadCrop,
    Progressive,
    ResizedCrop,
    Sgd,
    TrainingRecipe,
)
from edgese.training.batches import training_batches, validation_batches
from edgese.training.plan import Plan

THREE = ClassNames(classes=3, labels=("cat", "dog", "fox"))
SMALL = Preprocessing(height=8, width=8, crop=1.0)
RECIPE = TrainingRecipe(
    name="mine",
    summary="A recipe.",
    sources=(),
    epochs=3,
    batch=4,
    optimizer=Sgd(lr=0.1),
    schedule=Cosine(),
    augmentation=Augmentation(),
)


def picture(number, side=8):
    """A picture of one colour that tells its number."""
    return Image.new("RGB", (side, side), (number, 0, 0))


def encoded(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def written(folder, labels, per_shard=4, **fields):
    """Shards as webdataset writes them, with a picture for each label."""
    from webdataset import ShardWriter

    pattern = str(folder / "train-%03d.tar")
    with ShardWriter(pattern, maxcount=per_shard, verbose=0) as writer:
        for number, label in enumerate(labels):
            sample = {"__key__": f"{number:04d}", "png": encoded(picture(number)), "cls": label}
            writer.write(sample | fields)


def tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


@pytest.fixture
def folders(tmp_path):
    """Class folders with two pictures of each of three classes."""
    for number, name in enumerate(("cat", "dog", "fox", "cat", "dog", "fox")):
        (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
        picture(number).save(tmp_path / "data" / name / f"{number}.png")
    return tmp_path / "data"


def reds(pictures):
    return [pictures.read(i).getpixel((0, 0))[0] for i in range(len(pictures.labels))]


@pytest.mark.parametrize("source", ["folder", "train-{000..002}.tar"])
def test_shards_that_webdataset_writes_are_read_in_their_order(tmp_path, source):
    written(tmp_path, [2, 0, 1, 2, 0, 1, 1, 1, 0])
    name = str(tmp_path if source == "folder" else tmp_path / source)
    assert is_shards(name)
    pictures = find_pictures(name, THREE)
    assert pictures.labels.tolist() == [2, 0, 1, 2, 0, 1, 1, 1, 0]
    assert reds(pictures) == list(range(9))
    assert (pictures.info.pictures, pictures.info.labelled_by) == (9, "number")


def test_classes_in_shards_may_be_names(tmp_path):
    tar(
        tmp_path / "a.tar",
        {
            "x/1.png": encoded(picture(1)),
            "x/1.cls": b"fox\n",
            "x/2.PNG": encoded(picture(2)),
            "x/2.cls": b"Cat",
            "x/2.json": b"{}",
        },
    )
    pictures = shard_pictures(str(tmp_path / "a.tar"), THREE)
    assert pictures.labels.tolist() == [2, 0]
    assert reds(pictures) == [1, 2]
    assert pictures.info.labelled_by == "name"


def test_shards_without_classes_serve_where_none_are_asked_for(tmp_path):
    tar(tmp_path / "a.tar", {"1.png": encoded(picture(1)), "2.png": encoded(picture(2))})
    pictures = shard_pictures(str(tmp_path / "a.tar"), THREE, with_labels=False)
    assert pictures.labels.tolist() == [UNLABELLED, UNLABELLED]
    with pytest.raises(InputError, match=r"has no class for 1\.png"):
        shard_pictures(str(tmp_path / "a.tar"), THREE)


def test_a_class_that_is_none_of_the_model_s_is_told_with_its_place(tmp_path):
    written(tmp_path, [0, 1, 7])
    with pytest.raises(InputError, match=r"0002\.png in .*train-000\.tar has the class '7'"):
        shard_pictures(str(tmp_path), THREE)


@pytest.mark.parametrize("damage", ["cut", "compressed", "no tar", "twice"])
def test_a_shard_that_is_damaged_is_an_input_error(tmp_path, damage):
    written(tmp_path, [0, 1])
    path = tmp_path / "train-000.tar"
    match damage:
        case "cut":
            path.write_bytes(path.read_bytes()[:1200])
        case "compressed":
            with tarfile.open(path, "w:gz") as archive:
                archive.add(__file__, "1.png")
        case "no tar":
            path.write_bytes(b"no tar file at all" * 100)
        case "twice":
            with tarfile.open(path, "w") as archive:
                archive.add(__file__, "1.png")
                archive.add(__file__, "1.png")
    with pytest.raises(InputError, match=r"read the shard .*train-000\.tar"):
        shard_pictures(str(tmp_path), THREE)


def test_shards_that_are_not_there_are_named(tmp_path):
    written(tmp_path, [0, 1])
    with pytest.raises(InputError, match=r"2 of the 3 shards .* first .*train-001\.tar"):
        shard_pictures(str(tmp_path / "train-{000..002}.tar"), THREE)


def test_shards_without_a_picture_are_an_input_error(tmp_path):
    tar(tmp_path / "a.tar", {"1.txt": b"nothing"})
    with pytest.raises(InputError, match="There is no picture in"):
        shard_pictures(str(tmp_path), THREE)


def test_shards_have_no_splits(tmp_path):
    written(tmp_path, [0, 1])
    with pytest.raises(ConfigError, match="The split 'val' of the shards"):
        find_pictures(str(tmp_path), THREE, split="val")


def test_a_broken_picture_in_a_shard_is_named(tmp_path):
    tar(tmp_path / "a.tar", {"1.png": b"nothing", "1.cls": b"0"})
    pictures = shard_pictures(str(tmp_path), THREE)
    with pytest.raises(InputError, match=r"image .*a\.tar/1\.png: "):
        pictures.read(0)


def test_the_same_pictures_in_another_order_or_class_are_others(tmp_path):
    hashes = set()
    for number, labels in enumerate([[0, 1, 2], [0, 2, 1], [0, 1]]):
        (tmp_path / str(number)).mkdir()
        written(tmp_path / str(number), labels)
        hashes.add(shard_pictures(str(tmp_path / str(number)), THREE).info.sha256)
    assert len(hashes) == 3


def test_class_folders_bring_their_names_where_the_model_has_none(folders):
    named = find_pictures(str(folders), THREE)
    nameless = find_pictures(str(folders), ClassNames(classes=3))
    assert (named.info.labelled_by, named.class_names) == ("name", ())
    assert (nameless.info.labelled_by, nameless.class_names) == ("order", ("cat", "dog", "fox"))
    assert named.labels.tolist() == nameless.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert reds(named) == [0, 3, 1, 4, 2, 5]


def test_any_folder_serves_where_no_classes_are_asked_for(folders):
    pictures = find_pictures(str(folders), ClassNames(classes=7), with_labels=False)
    assert set(pictures.labels.tolist()) == {UNLABELLED}
    assert sorted(reds(pictures)) == list(range(6))


def test_the_digits_are_two_parts_without_a_common_picture():
    train, val = digit_pictures(ClassNames(classes=10))
    assert (len(train.labels), len(val.labels)) == (1438, 359)
    assert set(train.labels) == set(val.labels) == set(range(10))
    assert train.info.sha256 != val.info.sha256
    image = train.read(0)
    assert (image.mode, image.size) == ("RGB", (8, 8))
    assert train.greys.max() == 255


def test_the_digits_are_scikit_learn_s():
    train, val = digit_pictures(ClassNames(classes=10))
    # The first rows of the first digit, as the documentation of load_digits shows it.
    rows = [[0, 0, 5, 13, 9, 1, 0, 0], [0, 0, 13, 15, 10, 15, 5, 0]]
    assert np.array_equal(train.greys[0][:2], np.array(rows) * 255 // 16)
    # The file begins 0, 1, 2, 3, 4, ...; every fifth is for validation.
    assert train.labels[:5].tolist() == [0, 1, 2, 3, 5]
    assert val.labels[:2].tolist() == [4, 9]


def test_digits_are_refused_by_a_model_of_other_classes():
    with pytest.raises(InputError, match="10 classes, and the model 3") as told:
        digit_pictures(THREE)
    assert "--classes 10" in told.value.hint


def test_a_held_out_share_is_spread_over_the_classes_and_left_out_of_the_rest():
    train, _ = digit_pictures(ClassNames(classes=10))
    rest, held = held_out(train, 0.1)
    assert len(held.labels) == 144
    assert sorted([*rest.indices, *held.indices]) == list(range(1438))
    shares = np.bincount(held.labels) / np.bincount(train.labels)
    assert shares.min() > 0.08
    assert shares.max() < 0.12
    assert np.array_equal(np.asarray(held.read(3)), np.asarray(train.read(held.indices[3])))
    assert rest.info.part == "four of five, without a held-out 0.1"
    assert len({train.info.sha256, rest.info.sha256, held.info.sha256}) == 3


@pytest.mark.parametrize("share", [0.0, 0.01, 0.99])
def test_a_share_that_leaves_nothing_on_one_side_is_refused(folders, share):
    with pytest.raises(ConfigError, match="held out"):
        held_out(find_pictures(str(folders), THREE), share)


def planned(pictures, **changes):
    recipe = msgspec.structs.replace(RECIPE, **changes)
    return Plan(recipe=recipe, pictures=len(pictures.labels), height=8, width=8)


def batches(pictures, plan, **options):
    options = {"seed": 1, "start": 0} | options
    with closing(training_batches(pictures, plan, SMALL, **options)) as drawn:
        return list(drawn)


def same(first, second):
    return len(first) == len(second) and all(
        torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
        for a, b in zip(first, second, strict=True)
    )


@pytest.fixture(scope="module")
def digits():
    train, _ = digit_pictures(ClassNames(classes=10))
    return held_out(train, 10 / len(train.labels))[1]


def test_every_epoch_shows_every_picture_once_and_in_another_order(folders):
    pictures = find_pictures(str(folders), THREE)
    plan = planned(pictures, augmentation=Augmentation(crop=CenterCrop(), flip=False), batch=3)
    seen = [value for batch, _ in batches(pictures, plan) for value in batch[:, 0, 0, 0].tolist()]
    epochs = [seen[0:6], seen[6:12], seen[12:18]]
    assert all(sorted(epoch) == list(range(6)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_labels_stay_with_their_pictures(folders):
    pictures = find_pictures(str(folders), THREE)
    plan = planned(pictures, augmentation=Augmentation(crop=CenterCrop(), flip=False))
    for batch, labels in batches(pictures, plan):
        assert (batch[:, 0, 0, 0] % 3).tolist() == labels.tolist()


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_are_the_same_whatever_prepares_them(digits, workers):
    plan = planned(digits)
    assert same(batches(digits, plan), batches(digits, plan, workers=workers))


@pytest.mark.parametrize("start", [1, 3, 7])
def test_batches_from_the_middle_are_those_of_the_whole_run(digits, start):
    plan = planned(digits)
    assert same(batches(digits, plan)[start:], batches(digits, plan, start=start))


def test_processes_share_each_step_without_a_rest(digits):
    plan = planned(digits)
    whole = batches(digits, plan)
    shares = [batches(digits, plan, rank=rank, size=2) for rank in (0, 1)]
    for step, (batch, labels) in enumerate(whole):
        for rank in (0, 1):
            assert torch.equal(batch[rank::2], shares[rank][step][0])
            assert torch.equal(labels[rank::2], shares[rank][step][1])


def test_another_seed_draws_and_varies_otherwise(digits):
    plan = planned(digits)
    assert not same(batches(digits, plan), batches(digits, plan, seed=2))


def test_a_picture_that_comes_twice_is_varied_otherwise(digits):
    one = held_out(digits, 0.1)[1]
    plan = planned(one, epochs=8, batch=8)
    ((batch, _),) = batches(one, plan)
    assert len({tuple(view.flatten().tolist()) for view in batch}) > 4


def test_pictures_grow_from_stage_to_stage(digits):
    growing = Progressive(stages=2, resolution=(0.5, 1.0))
    sizes = [batch.shape[2:] for batch, _ in batches(digits, planned(digits, progressive=growing))]
    assert sizes == [(4, 4)] * 4 + [(8, 8)] * 4


def test_batches_lie_as_convolutions_want_them(digits):
    batch, labels = batches(digits, planned(digits))[0]
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert (batch.dtype, labels.dtype, tuple(batch.shape)) == (
        torch.uint8,
        torch.int64,
        (4, 3, 8, 8),
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_cannot_be_read_is_named_whoever_reads_it(folders, workers):
    (folders / "dog" / "1.png").write_bytes(b"nothing")
    pictures = find_pictures(str(folders), THREE)
    with pytest.raises(InputError, match=r"image .*dog/1\.png: ") as told:
        batches(pictures, planned(pictures), workers=workers)
    assert told.value.hint == "Replace the file, or take it out."
    with pytest.raises(InputError, match=r"dog/1\.png"):
        list(validation_batches(pictures, SMALL, batch=4, workers=workers))


@pytest.mark.parametrize(("size", "workers"), [(1, 0), (1, 2), (2, 0), (3, 1)])
def test_validation_shows_every_picture_once_as_it_is_evaluated(digits, size, workers):
    seen = []
    for rank in range(size):
        drawn = validation_batches(digits, SMALL, batch=3, rank=rank, size=size, workers=workers)
        seen += [*itertools.chain(*(zip(*batch, strict=True) for batch in drawn))]
    expected = [preprocess(digits.read(i), SMALL) for i in range(len(digits.labels))]
    assert len(seen) == len(expected)
    for values, label in seen:
        matching = [i for i, other in enumerate(expected) if np.array_equal(other, values)]
        assert label in digits.labels[matching]


PHOTOGRAPH = sample_pictures()[0][1]
P = Preprocessing(height=48, width=64)


def varied(augmentation, seed=0, image=PHOTOGRAPH, p=P):
    return augmented(image, augmentation, p, np.random.default_rng(seed))


def test_without_any_variation_a_picture_is_as_it_is_evaluated():
    plain = Augmentation(crop=CenterCrop(), flip=False)
    assert np.array_equal(varied(plain), np.asarray(cropped(PHOTOGRAPH, P)))


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(),
        Augmentation(crop=PadCrop(padding=5)),
        Augmentation(crop=CenterCrop(), colour=0.5),
        Augmentation(crop=CenterCrop(), flip=False, randaugment=10),
        Augmentation(randaugment=30, colour=0.9),
    ],
    ids=str,
)
def test_variation_follows_from_the_generator_alone(augmentation):
    views = [varied(augmentation, seed) for seed in range(12)]
    assert {view.shape for view in views} == {(48, 64, 3)}
    assert {view.dtype for view in views} == {np.dtype(np.uint8)}
    assert len({view.tobytes() for view in views}) > 6
    assert np.array_equal(views[3], varied(augmentation, 3))


def test_a_flip_mirrors_half_of_the_pictures():
    plain = Augmentation(crop=CenterCrop(), flip=False)
    flipping = Augmentation(crop=CenterCrop(), flip=True)
    straight = varied(plain)
    kinds = [varied(flipping, seed) for seed in range(200)]
    mirrored = sum(np.array_equal(view, straight[:, ::-1]) for view in kinds)
    assert all(
        np.array_equal(view, straight) or np.array_equal(view, straight[:, ::-1]) for view in kinds
    )
    assert 70 < mirrored < 130


def test_a_moved_picture_has_the_mean_colour_at_its_rim():
    white = Image.new("RGB", (64, 48), (255, 255, 255))
    views = [varied(Augmentation(crop=PadCrop(padding=5)), seed, white) for seed in range(300)]
    rims = [(view != 255).any(axis=2) for view in views]
    colours = {tuple(colour) for view, rim in zip(views, rims, strict=True) for colour in view[rim]}
    assert colours == {tuple(round(255 * mean) for mean in P.mean)}
    for axis in (0, 1):
        # Whole columns and rows are empty, up to five of them, on either side.
        widths = [int(rim.all(axis=axis).sum()) for rim in rims]
        assert (min(widths), max(widths)) == (0, 5)
        ends = {(rim.all(axis=axis)[0].item(), rim.all(axis=axis)[-1].item()) for rim in rims}
        assert ends == {(False, False), (True, False), (False, True)}


def test_crops_cover_their_range_of_areas_and_aspects():
    crop = ResizedCrop(area=(0.2, 0.6), aspect=(0.5, 2.0))
    rng = np.random.default_rng(0)
    boxes = [rectangle((300, 200), crop, rng) for _ in range(400)]
    areas = [width * height / 60_000 for _, _, width, height in boxes]
    aspects = [width / height for _, _, width, height in boxes]
    assert 0.19 < min(areas) < 0.22
    assert 0.55 < max(areas) < 0.61
    assert 0.49 < min(aspects) < 0.56
    assert 1.8 < max(aspects) < 2.02
    for left, top, width, height in boxes:
        assert left >= 0
        assert top >= 0
        assert left + width <= 300
        assert top + height <= 200


@pytest.mark.parametrize("size", [(1, 1), (2, 400), (400, 1)])
def test_a_strip_or_a_single_pixel_can_be_cropped(size):
    assert varied(Augmentation(), image=PHOTOGRAPH.resize(size)).shape == (48, 64, 3)


@pytest.mark.parametrize("name", ["a.tar", "a-{0..3}.tar"])
def test_what_is_named_like_a_shard_is_meant_as_one(name):
    assert is_shards(name)
    assert not is_shards(str(Path(__file__).parent))
