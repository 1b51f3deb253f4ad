"""Photos of every kind, the stream of training crops, test crops, manifests and shards."""

import hashlib
import io
import json
import os
import pickle
import shutil
import sys
import threading
import warnings
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import write_shards, write_tar

from cascade_lab import data
from cascade_lab.data import (
    Readers,
    crop_names,
    manifest,
    open_photos,
    photos,
    read_photo,
    shards,
    sources,
    training_batches,
)

GRADIENT = np.linspace(0, 255, 24 * 32).reshape(24, 32).astype(np.uint8)


def plain(number, size=(20, 16)):
    """A photo of one color, which tells its number wherever it is cut."""
    return Image.new("RGB", size, (number, 255 - number, 7))


def numbers(crops):
    """The numbers of the photos that crops of plain ones come from."""
    return (crops[:, 0, 0, 0] * 255).round().int().tolist()


def hash_of(folder, names):
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def encode(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Ten plain photos, all of them to train on."""
    path = tmp_path / "train"
    path.mkdir()
    for number in range(10):
        plain(number).save(path / f"{number:02d}.png")
    return path


@pytest.fixture
def mixed(folder):
    """The same photos in a folder that says nothing of a split."""
    return folder.rename(folder.with_name("holiday"))


@pytest.fixture
def one(tmp_path):
    """A folder for photos to train on."""
    (tmp_path / "train").mkdir()
    return tmp_path / "train"


class TestReadPhoto:
    @pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "I;16", "I", "F"])
    def test_modes(self, mode, tmp_path):
        """Each mode that a file can have gives nearly the same gradient in RGB."""
        if mode in ("I;16", "I"):
            image = Image.fromarray(GRADIENT.astype({"I;16": np.uint16, "I": np.int32}[mode]) * 257)
        elif mode == "F":
            image = Image.fromarray((GRADIENT / 255).astype(np.float32))
        else:
            image = Image.fromarray(GRADIENT).convert(mode, dither=Image.Dither.NONE)
        kind = {"CMYK": "JPEG", "YCbCr": "JPEG"}.get(mode, "TIFF" if mode in ("I", "F") else "PNG")
        image.save(tmp_path / "photo", kind)
        photo = read_photo(tmp_path / "photo")
        assert (photo.mode, photo.size) == ("RGB", (32, 24))
        expected = np.where(GRADIENT > 127, 255, 0) if mode == "1" else GRADIENT.astype(int)
        assert np.abs(np.asarray(photo, dtype=int) - expected[..., None]).max() <= (8 if kind == "JPEG" else 1)

    def test_transparent_pixels_lie_over_white(self):
        image = Image.new("RGBA", (2, 1), (200, 0, 0, 255))
        image.putpixel((1, 0), (200, 0, 0, 0))
        palette = Image.new("P", (2, 1), 0)
        palette.putpalette([200, 0, 0, 0, 0, 0])
        palette.putpixel((1, 0), 1)
        for file in (encode(image), encode(palette, transparency=1)):
            photo = read_photo(io.BytesIO(file))
            assert [photo.getpixel((x, 0)) for x in (0, 1)] == [(200, 0, 0), (255, 255, 255)]

    def test_camera_rotation_is_undone(self):
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees clockwise
        photo = read_photo(io.BytesIO(encode(Image.fromarray(GRADIENT), "JPEG", exif=exif)))
        assert photo.size == (24, 32)
        assert np.abs(np.asarray(photo, dtype=int)[..., 0] - np.rot90(GRADIENT, -1)).max() < 8

    @pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
    def test_broken_exif_is_no_broken_photo(self):
        file = encode(plain(3), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff nonsense")
        assert read_photo(io.BytesIO(file)).size == (20, 16)

    def test_first_frame_of_an_animation(self):
        file = encode(plain(9), "GIF", save_all=True, append_images=[plain(200)])
        assert read_photo(io.BytesIO(file)).getpixel((0, 0))[0] == 9

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "not a photo"),
            (b"A note, no photo.", "not a photo"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a photo"),
            (encode(Image.effect_noise((64, 64), 50), "JPEG")[:700], "cannot be read: .*truncated"),
            (encode(Image.effect_noise((64, 64), 50))[:700], "cannot be read"),
            (encode(Image.fromarray(np.full((4, 4), 7, np.float32)), "TIFF"), "values from 7 to 7, expected 0 to 1"),
        ],
        ids=["empty", "text", "postscript", "jpeg cut short", "png cut short", "float beyond 1"],
    )
    def test_what_cannot_be_read(self, content, reason):
        with pytest.raises(ValueError, match=reason):
            read_photo(io.BytesIO(content))

    def test_decompression_bomb(self, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        with pytest.raises(ValueError, match="million pixels"):
            read_photo(io.BytesIO(encode(Image.new("1", (100, 100)))))

    def test_no_file(self, tmp_path):
        with pytest.raises(ValueError, match="No such file"):
            read_photo(tmp_path / "gone.jpg")


class TestOpenPhotos:
    def test_scikit_image(self):
        train, test = open_photos(None, "train"), open_photos(None, "test")
        assert test.names == ["astronaut.png", "chelsea.png", "china.jpg", "flower.jpg", "grace_hopper.jpg"]
        assert len(train) == 7
        assert not train.skipped
        assert not set(train.names) & set(test.names)
        assert open_photos(None, "val").hash == test.hash != train.hash

    def test_a_folder_whole(self, folder):
        (folder / "deep" / "er").mkdir(parents=True)
        plain(77).save(folder / "deep" / "er" / "a.b.webp")
        (folder / ".hidden.png").write_bytes(b"")
        found = open_photos(folder)
        assert found.names == [*(f"{i:02d}.png" for i in range(10)), "deep/er/a.b.webp"]
        assert found[-1].size == (20, 16)
        assert open_photos(folder.rename(folder.with_name("all")), "test", whole=True).names == found.names

    @pytest.mark.parametrize("case", [str.lower, str.title, str.upper])
    def test_a_folder_with_splits(self, folder, case):
        for split in ("train", "val"):
            (folder / case(split)).mkdir()
            plain(50 + len(split)).save(folder / case(split) / f"{split}.png")
        assert open_photos(folder, "train").names == ["train.png"]
        assert open_photos(folder, "val").names == open_photos(folder, "test").names == ["val.png"]
        shutil.rmtree(folder / case("train"))
        with pytest.raises(ValueError, match="no split 'train', only val"):
            open_photos(folder, "train")
        with pytest.raises(ValueError, match="train, val, test, got 'dev'"):
            open_photos(folder, "dev")

    def test_what_is_left_out_is_named(self, folder):
        (folder / "05.png").write_bytes((folder / "05.png").read_bytes()[:60])
        (folder / "notes.txt").write_text("no photo")
        with pytest.warns(UserWarning, match="2 files left out"):
            found = open_photos(folder)
        assert len(found) == 9
        assert found.skipped["05.png"].startswith("cannot be read")
        assert found.skipped["notes.txt"].startswith("not a photo")

    def test_the_first_three_that_are_left_out_are_told(self, folder):
        for number in range(4):
            (folder / f"{number:02d}.png").write_text("no photo")
        with pytest.warns(UserWarning, match="4 files left out") as warned:
            found = open_photos(folder)
        first = "; ".join(f"{name}: {why}" for name, why in sorted(found.skipped.items())[:3])
        assert str(warned[0].message) == f"{found.source}: 4 files left out ({first})"
        assert first.startswith("00.png: not a photo")

    def test_nothing_to_read(self, tmp_path):
        with pytest.raises(ValueError, match="no photo in .* can be read"):
            open_photos(tmp_path)
        with pytest.raises(ValueError, match="there is no folder"):
            open_photos(tmp_path / "gone")

    def test_hash_is_of_names_and_contents(self, folder, tmp_path_factory):
        first = open_photos(folder).hash
        other = tmp_path_factory.mktemp("other")
        shutil.copytree(folder, other / "train")
        assert open_photos(other / "train").hash == first
        plain(99).save(other / "train" / "03.png")
        assert open_photos(other / "train").hash != first

    def test_a_split_under_two_names_is_refused(self, tmp_path):
        for name in ("Train", "train"):
            (tmp_path / name).mkdir()
        if len(list(tmp_path.iterdir())) == 1:
            pytest.skip("names do not differ by case here")
        with pytest.raises(ValueError, match=r"under two names \(Train, train\)"):
            open_photos(tmp_path)

    def test_photos_beside_the_splits_are_named(self, folder):
        """They serve neither split; a text or a hidden file is no photo."""
        beside = folder.parent
        (beside / "test").mkdir()
        plain(99).save(beside / "test" / "t.png")
        (beside / "notes.txt").write_text("of the trip")
        plain(5).save(beside / ".hidden.png")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            alone = {split: open_photos(beside, split).names for split in ("train", "test")}
        (beside / "more").mkdir()
        for name in ("a.png", "b.JPG", "more/c.png", "more/d.tif"):
            plain(7).save(beside / name)
        said = "only the photos in test and train are used; a.png, b.JPG, more/c.png and 1 more beside them are not"
        for split, names in alone.items():
            with pytest.warns(UserWarning, match=said):
                assert open_photos(beside, split).names == names

    def test_a_folder_that_is_called_as_a_split(self, folder):
        """It serves that split alone: its photos cannot be trained on and tested on."""
        assert len(open_photos(folder, "train")) == 10
        with pytest.raises(ValueError, match="no split 'test', only train"):
            open_photos(folder, "test")
        assert len(open_photos(folder, "test", whole=True)) == 10

    @pytest.mark.parametrize("name", ["", "  "])
    def test_an_empty_name(self, name):
        with pytest.raises(ValueError, match="name is empty: is a variable unset"):
            open_photos(name)

    def test_a_part_of_the_photos(self, folder):
        found = open_photos(folder)
        part = found[2:5]
        assert (part.names, len(part), found[2:2].names) == (found.names[2:5], 3, [])
        assert [photo.getpixel((0, 0))[0] for photo in part] == [2, 3, 4]
        assert [(name, photo.getpixel((0, 0))[0]) for name, photo in found[::-3].items()] == [
            (f"{number:02d}.png", number) for number in (9, 6, 3, 0)
        ]
        whole = found.hash
        assert part.hash == hash_of(folder, found.names[2:5]) != whole
        assert crop_names(part, 8, "crop") == part.names

    def test_pickled_without_the_decoded_photos(self, folder):
        found = open_photos(folder)
        copy = pickle.loads(pickle.dumps(found))
        assert len(pickle.dumps(found)) < 5000
        assert np.array_equal(np.asarray(copy[3]), np.asarray(found[3]))

    def test_decoded_photos_are_kept_up_to_a_budget(self, folder, monkeypatch):
        monkeypatch.setattr(photos, "CACHE", 4 * 20 * 16 * 3)
        found = open_photos(folder)
        shutil.rmtree(folder)
        assert found[2].getpixel((0, 0))[0] == 2
        with pytest.raises(ValueError, match="No such file"):
            found[3]

    def test_a_part_takes_over_what_is_decoded(self, folder, monkeypatch):
        monkeypatch.setattr(photos, "CACHE", 4 * 20 * 16 * 3)
        found = open_photos(folder)
        part = found[1:5]  # of which two are kept
        shutil.rmtree(folder)
        assert [part[index].getpixel((0, 0))[0] for index in (0, 1)] == [1, 2]
        with pytest.raises(ValueError, match="No such file"):
            part[2]


class TestSplitByContent:
    """A folder that says nothing of a split: no manifest, no train or test, neither in it nor in its name."""

    @pytest.fixture(autouse=True)
    def _said_once(self):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*put aside for tests, by content")
            yield

    @pytest.fixture
    def hundred(self, tmp_path):
        for number in range(100):
            plain(number).save(tmp_path / f"{number:02d}.png")
        return tmp_path

    def test_no_photo_is_on_both_sides(self, hundred):
        train, test, val = (open_photos(hundred, split) for split in ("train", "test", "val"))
        assert not set(train.names) & set(test.names)
        assert len(train) + len(test) == 100
        assert 3 <= len(test) <= 20
        assert val.names == test.names

    def test_neither_names_nor_place_nor_others_decide(self, hundred, tmp_path_factory):
        other = tmp_path_factory.mktemp("other") / "deep"
        other.mkdir()
        for path in hundred.iterdir():
            shutil.copy(path, other / f"x{99 - int(path.stem):02d}.png")
        found, test = open_photos(hundred, "test"), open_photos(other.parent, "test")
        assert sorted(numbers(data.test_crops(found, 8, "crop"))) == sorted(numbers(data.test_crops(test, 8, "crop")))
        for number in range(100, 130):
            plain(number).save(hundred / f"{number}.png")
        assert set(found.names) <= set(open_photos(hundred, "test").names)

    def test_copies_are_on_the_same_side(self, hundred):
        """Of the same bytes, and of the same pixels in other files."""
        for number in range(100):
            shutil.copy(hundred / f"{number:02d}.png", hundred / f"{number:02d} copy.png")
            plain(number).save(hundred / f"{number:02d} copy.bmp")
        for split in ("train", "test"):
            names = open_photos(hundred, split).names
            stems = [name[:2] for name in names]
            assert all(stems.count(stem) == 3 for stem in stems)

    @pytest.mark.parametrize("count", [2, 3])
    @pytest.mark.parametrize("share", [0.0, 1.0])
    def test_at_least_one_and_never_all(self, count, share, tmp_path, monkeypatch):
        monkeypatch.setattr(sources, "ASIDE", share)
        for number in range(count):
            plain(number).save(tmp_path / f"{number}.png")
        sizes = [len(open_photos(tmp_path, split)) for split in ("train", "test")]
        assert sizes == ([count - 1, 1] if share == 0 else [1, count - 1])

    @pytest.mark.parametrize("copies", [1, 3])
    def test_one_photo_cannot_do_both(self, copies, tmp_path):
        for number in range(copies):
            plain(7).save(tmp_path / f"{number}.png")
        for split in ("train", "test"):
            with pytest.raises(ValueError, match="holds one photo, which cannot both train and test.*sub-folder"):
                open_photos(tmp_path, split)
        assert len(open_photos(tmp_path, "test", whole=True)) == copies

    def test_a_line_says_so(self, mixed):
        with pytest.warns(UserWarning, match=r"holiday: 9 photos to train on, 1 put aside for tests, by content"):
            open_photos(mixed)

    def test_an_unknown_split(self, mixed):
        with pytest.raises(ValueError, match="train, val, test, got 'dev'"):
            open_photos(mixed, "dev")


class TestWhatCountsAsAPhoto:
    @pytest.mark.parametrize(
        "place", [".ipynb_checkpoints", ".thumbnails/deep", ".Trash-1000/files", "__MACOSX", "@eaDir/x", "a/.b/c"]
    )
    def test_hidden_and_system_folders_hold_none(self, place, folder):
        (folder / place).mkdir(parents=True)
        shutil.copy(folder / "01.png", folder / place / "copy.png")
        found = open_photos(folder)
        assert (len(found), found.skipped) == (10, {})

    def test_a_dot_above_the_folder_does_not_matter(self, folder):
        (folder.parent / ".cache").mkdir()
        assert len(open_photos(folder.rename(folder.parent / ".cache" / "train"))) == 10

    def test_a_linked_folder_is_followed_once(self, folder, tmp_path_factory):
        other = tmp_path_factory.mktemp("other")
        plain(50).save(other / "50.png")
        (folder / "linked").symlink_to(other)
        (folder / "twice").symlink_to(other)
        (other / "back").symlink_to(folder)
        (other / "up").symlink_to(folder.parent)
        with pytest.warns(
            UserWarning, match="3 files left out .*linked/back: a folder that is read under another name"
        ):
            found = open_photos(folder)
        assert found.names == [*(f"{number:02d}.png" for number in range(10)), "linked/50.png"]
        assert sorted(found.skipped) == ["linked/back", "linked/up", "twice"]

    def test_a_folder_that_cannot_be_read_is_named(self, folder, monkeypatch):
        (folder / "locked").mkdir()
        scandir = os.scandir

        def guarded(path):
            if os.fspath(path).endswith("locked"):
                raise PermissionError(13, "Permission denied", path)
            return scandir(path)

        monkeypatch.setattr(os, "scandir", guarded)
        with pytest.warns(UserWarning, match="locked: cannot be read: Permission denied"):
            found = open_photos(folder)
        assert (len(found), list(found.skipped)) == (10, ["locked"])

    @pytest.mark.filterwarnings("ignore:.*files left out")
    def test_odd_files_are_named_and_no_end(self, folder, monkeypatch):
        (folder / "folder.jpg").mkdir()
        plain(60).save(folder / "folder.jpg" / "a.png")
        os.mkfifo(folder / "pipe.jpg")
        (folder / "device.jpg").symlink_to("/dev/zero")
        (folder / "gone.jpg").symlink_to("nowhere")
        (folder / "empty.jpg").write_bytes(b"")
        (folder / "cut.png").write_bytes(encode(Image.effect_noise((64, 64), 50))[:700])
        (folder / "bomb.png").write_bytes(encode(Image.new("1", (100, 100))))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4999)
        reasons = {
            "pipe.jpg": "not a file",
            "device.jpg": "not a file",
            "gone.jpg": "No such file",
            "empty.jpg": "not a photo",
            "cut.png": "cannot be read",
            "bomb.png": "million pixels",
        }
        for large in (False, True):  # decoded whole, or the headers alone
            monkeypatch.setattr(sources, "VERIFY", 0 if large else 100)
            found = open_photos(folder)
            assert "folder.jpg/a.png" in found.names
            assert set(found.skipped) == set(reasons) - ({"cut.png"} if large else set())
            assert all(reasons[name] in why for name, why in found.skipped.items())


class TestManifest:
    @pytest.fixture
    def listed(self, folder):
        rows = []
        for number in range(10):
            split = "test" if number % 5 == 0 else "train"
            (folder / split).mkdir(exist_ok=True)
            path = (folder / f"{number:02d}.png").rename(folder / split / f"{number:02d}.png")
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            size = path.stat().st_size
            rows.append({"file": f"{split}/{path.name}", "size": size, "sha256": digest, "split": split})
        skipped = {"train/bad.png": "cannot be read", "test/worse.png": "cannot be read"}
        manifest.write_manifest(folder / "manifest.json", "ten", "made", rows, skipped)
        return folder

    @pytest.mark.filterwarnings("ignore:.*files left out")
    def test_gives_the_split_and_the_hash(self, listed):
        found = open_photos(listed, "test")
        assert (found.names, found.skipped) == (["00.png", "05.png"], {"worse.png": "cannot be read"})
        (listed / "manifest.json").unlink()
        assert open_photos(listed, "test").hash == found.hash

    def test_differing_files_are_left_out(self, listed):
        (listed / "train" / "01.png").unlink()
        (listed / "train" / "02.png").write_bytes(b"cut")
        with pytest.warns(UserWarning, match="3 files left out"):
            found = open_photos(listed, "train")
        assert found.skipped["01.png"] == "listed in the manifest but missing"
        assert "3 bytes long" in found.skipped["02.png"]
        assert len(found) == 6

    @pytest.mark.parametrize(
        "text",
        [
            "{",
            "[]",
            '{"files": [{"file": "a.jpg"}], "skipped": {}}',
            '{"files": [{"file": "../a.jpg", "size": 1, "sha256": "0", "split": "train"}], "skipped": {}}',
            '{"files": [{"file": "/a.jpg", "size": 1, "sha256": "0", "split": "train"}], "skipped": {}}',
            '{"files": [{"file": "a.tar", "size": 1, "sha256": "0", "split": "train"}], "skipped": {}}',
        ],
    )
    def test_a_broken_manifest_is_named(self, folder, text):
        (folder / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match=r"manifest\.json is not a manifest"):
            open_photos(folder)


class TestTrainingBatches:
    def test_smoke(self):
        (crops,) = training_batches(open_photos(), 32, 16, seed=0, start=3, stop=4)
        assert (crops.shape, crops.dtype) == ((16, 3, 32, 32), torch.float32)
        assert 0 <= crops.min() < 0.1
        assert 0.9 < crops.max() <= 1

    def test_a_step_depends_on_its_number_alone(self):
        found = open_photos()
        batches = partial(training_batches, found, 16, 8, 5)
        straight = list(batches(0, 6))
        assert all(torch.equal(a, b) for a, b in zip(straight[4:], batches(4, 6), strict=True))
        assert all(torch.equal(a, b) for a, b in zip(straight, batches(0, 6, readers=Readers(2)), strict=True))
        assert not torch.equal(straight[0], next(training_batches(found, 16, 8, 6, 0, 1)))

    def test_an_epoch_visits_each_photo_once_in_an_order_of_its_own(self, folder):
        seen = numbers(torch.cat(list(training_batches(open_photos(folder), 8, 3, 0, 0, 10))))
        epochs = [seen[i : i + 10] for i in (0, 10, 20)]
        assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
        assert epochs[0] != epochs[1] != epochs[2]

    def test_ranks_share_what_one_would_see(self):
        found = open_photos()
        alone = list(training_batches(found, 16, 6, 0, 1, 4))
        ranks = [
            list(training_batches(found, 16, 2, 0, 1, 4, readers=Readers(rank=rank, world=3))) for rank in range(3)
        ]
        for step, crops in enumerate(alone):
            assert torch.equal(torch.stack([rank[step] for rank in ranks], 1).flatten(0, 1), crops)

    def test_scale(self, one):
        """Across a ramp, a crop's range says how much of the photo it shows."""
        ramp = np.tile(np.arange(0, 200, dtype=np.uint8), (200, 1))
        Image.fromarray(ramp).save(one / "ramp.png")
        found = open_photos(one)

        def extents(scale):
            crops = torch.cat(list(training_batches(found, 20, 1, 0, 0, 40, scale=scale))) * 255
            return crops.amax((1, 2, 3)) - crops.amin((1, 2, 3))

        assert torch.allclose(extents((0, 0)), torch.tensor(19.0))  # 1:1, not resampled
        assert (extents((1, 1)) > 185).all()  # the whole photo, resized
        between = extents((0, 1))
        assert between.min() < 40
        assert between.max() > 160

    def test_half_are_mirrored(self, one):
        Image.fromarray(np.tile(np.arange(200, dtype=np.uint8), (200, 1))).save(one / "ramp.png")
        crops = torch.cat(list(training_batches(open_photos(one), 16, 1, 0, 0, 200)))
        rising = (crops[:, 0, 8, 15] > crops[:, 0, 8, 0]).sum().item()
        assert 70 < rising < 130

    def test_all_places_are_reached(self, one):
        Image.fromarray(np.arange(5 * 4, dtype=np.uint8).reshape(4, 5)).save(one / "cells.png")
        crops = torch.cat(list(training_batches(open_photos(one), 1, 1, 0, 0, 300, scale=(0, 0))))
        assert sorted(set(numbers(crops))) == list(range(20))

    def test_photos_smaller_than_the_crop_are_enlarged(self, folder):
        crops = next(training_batches(open_photos(folder), 40, 10, 0, 0, 1))
        assert crops.shape == (10, 3, 40, 40)
        assert sorted(numbers(crops)) == list(range(10))

    def test_fewer_photos_than_a_step_takes(self, folder):
        (folder / "notes.txt").write_text("no photo")
        with pytest.warns(UserWarning, match="left out"):
            found = open_photos(folder)
        with pytest.raises(ValueError, match=r"10 usable photos \(1 left out\), but a step takes 11"):
            training_batches(found, 8, 11, 0, 0, 1)  # before the first batch is asked for
        with pytest.raises(ValueError, match="a step takes 12"):
            training_batches(found, 8, 6, 0, 0, 1, readers=Readers(world=2))

    @pytest.mark.parametrize(
        "wrong",
        [{"scale": (0.5, 0.2)}, {"scale": (0, 2)}, {"size": 0}, {"batch": 0}, {"seed": -1}],
        ids=str,
    )
    def test_arguments_out_of_range(self, wrong):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            training_batches(
                **{"photos": open_photos(), "size": 8, "batch": 2, "seed": 0, "start": 0, "stop": 1, **wrong}
            )

    @pytest.mark.parametrize("wrong", [{"rank": 1}, {"rank": -1}, {"workers": -1}, {"world": 0}], ids=str)
    def test_readers_out_of_range(self, wrong):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
            Readers(**wrong)

    def test_a_large_set_survives_broken_photos(self, folder, monkeypatch):
        """Of a large set only headers are read at first: the next photo stands in, the same in every run."""
        monkeypatch.setattr(sources, "VERIFY", 5)
        noise = encode(Image.effect_noise((64, 64), 50))
        (folder / "03.png").write_bytes(noise[: len(noise) // 2])
        (folder / "04.png").write_bytes(b"")
        with pytest.warns(UserWarning, match="1 files left out"):
            found = open_photos(folder)
        assert list(found.skipped) == ["04.png"]
        with pytest.warns(UserWarning, match=r"03\.png: .*the next photo stands in"):
            crops = torch.cat(list(training_batches(found, 8, 3, 0, 0, 3)))
        assert sorted(numbers(crops)) == [0, 1, 2, 5, 5, 6, 7, 8, 9]

    def test_none_can_be_read_any_more(self, folder, monkeypatch):
        monkeypatch.setattr(sources, "VERIFY", 0)
        found = open_photos(folder)
        shutil.rmtree(folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(ValueError, match="no photo of .* can be read any more"):
                next(training_batches(found, 8, 3, 0, 0, 3))


class TestTestCrops:
    def test_crop_is_the_center_at_1_to_1(self, one):
        Image.fromarray(GRADIENT).save(one / "a.png")
        crops = data.test_crops(open_photos(one), 10, "crop")
        assert torch.equal(crops[0, 0], torch.from_numpy(GRADIENT[7:17, 11:21]) / 255)

    def test_resize_is_the_whole_central_square(self, one):
        halves = Image.new("L", (400, 200), 255)
        halves.paste(0, (100, 0, 200, 200))
        halves.save(one / "a.png")
        crop = data.test_crops(open_photos(one), 20, "resize")[0, 0]
        assert torch.equal(crop[:, [0, 7, 12, 19]], torch.tensor([0.0, 0, 1, 1]).expand(20, 4))

    def test_grid_covers_the_square_and_is_named(self, one):
        cells = np.kron(np.arange(9).reshape(3, 3), np.ones((30, 30))).astype(np.uint8)
        Image.fromarray(cells).save(one / "a.png")
        Image.fromarray(cells[:30, :40]).save(one / "b.png")
        found = open_photos(one)
        assert numbers(data.test_crops(found, 20, "grid")) == [*range(9), 0]
        names = [f"a.png {row},{column}" for row in (1, 2, 3) for column in (1, 2, 3)]
        assert crop_names(found, 20, "grid") == [*names, "b.png 1,1"]

    @pytest.mark.parametrize("mode", ["crop", "resize"])
    def test_rows_follow_the_names(self, folder, mode):
        found = open_photos(folder)
        assert numbers(data.test_crops(found, 30, mode)) == list(range(10))  # enlarged, too
        assert crop_names(found, 30, mode) == found.names

    def test_mode(self):
        with pytest.raises(ValueError, match="crop, resize or grid, got 'middle'"):
            data.test_crops(open_photos(None, "test"), 8, "middle")


class TestShards:
    """Seven shards of 23 plain photos."""

    @pytest.fixture(autouse=True)
    def _webdataset(self):
        pytest.importorskip("webdataset", reason="needs the extra `shards`")

    @pytest.fixture
    def folder(self, tmp_path):
        write_shards(tmp_path, [(f"{i:02d}.png", encode(plain(i))) for i in range(23)], 4)
        return tmp_path

    @pytest.mark.parametrize("workers", [0, 2])
    @pytest.mark.parametrize("buffer", [1000, 5])
    def test_two_ranks_see_every_photo_once_an_epoch(self, folder, workers, buffer, monkeypatch):
        monkeypatch.setattr(shards, "BUFFER", buffer)
        found = open_photos(folder)
        assert (len(found), list(found.skipped)) == (23, ["x.jpg"])
        ends = []
        for rank in (0, 1):
            order = [np.random.default_rng((0, 0, epoch)).permutation(6)[rank::2] for epoch in (0, 1)]
            counts = [sum(found.counts[i] for i in mine) for mine in order]
            crops = training_batches(found, 8, 1, 0, 0, sum(counts), readers=Readers(workers, rank, 2))
            seen = numbers(torch.cat(list(crops)))
            ends.append((seen[: counts[0]], seen[counts[0] :]))
        if workers == 0:  # with workers, a rank's next epoch begins in one before it ends in the other
            assert [sorted(a + b) for a, b in zip(*ends, strict=True)] == [list(range(23))] * 2
            assert not set(ends[0][0]) & set(ends[1][0])
        assert ends[0] != (sorted(ends[0][0]), sorted(ends[0][1]))

    def test_workers_see_every_photo_once_an_epoch(self, folder):
        found = open_photos(folder)
        seen = []
        for rank in (0, 1):
            for slot in (0, 1):
                for epoch, _, photo in found.samples(0, Readers(rank=rank, world=2), slot, 2, 0):
                    if epoch:
                        break
                    seen.append(read_photo(io.BytesIO(photo)).getpixel((0, 0))[0])
        assert sorted(seen) == list(range(23))

    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_resumed_run_sees_the_same_batches(self, folder, workers):
        """Also from the middle of the third epoch, and from a step that is another worker's turn."""
        batches = partial(training_batches, open_photos(folder), 8, 4, 3, readers=Readers(workers))
        straight = list(batches(0, 16))
        assert len(straight) == 16
        for start in (1, 5, 13):
            resumed = list(batches(start, 16))
            assert all(torch.equal(a, b) for a, b in zip(straight[start:], resumed, strict=True))

    def test_no_more_workers_than_shards(self, folder):
        assert len(list(training_batches(open_photos(folder), 8, 1, 0, 0, 9, readers=Readers(3, world=6)))) == 9
        with pytest.raises(ValueError, match="6 shards cannot be split over 7 ranks"):
            training_batches(open_photos(folder), 8, 1, 0, 0, 9, readers=Readers(world=7))
        with pytest.raises(ValueError, match="23 usable photos .* but a step takes 24"):
            training_batches(open_photos(folder), 8, 24, 0, 0, 9)

    def test_pattern(self, folder):
        some = open_photos(f"{folder}/train-{{000001..000002}}.tar")
        assert (some.names, len(some)) == (["train-000001.tar", "train-000002.tar"], 8)
        assert len(open_photos(f"{folder}/train-000005.tar")) == 3
        assert some.hash != open_photos(folder).hash
        with pytest.raises(ValueError, match=r"lists no train-000006\.tar \(2 missing\)"):
            open_photos(f"{folder}/train-{{000005..000007}}.tar")
        with pytest.raises(ValueError, match="no split 'test', only train"):
            open_photos(folder, "test")

    @pytest.mark.skipif(not shutil.which("curl"), reason="webdataset reads addresses through curl")
    def test_from_an_address(self, folder):
        class Quiet(SimpleHTTPRequestHandler):
            def log_message(self, *args):
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
            try:
                address = f"http://127.0.0.1:{server.server_port}"
                here = list(training_batches(open_photos(folder), 8, 4, 0, 0, 7))
                there = list(training_batches(open_photos(f"{address}/train-{{000000..000005}}.tar"), 8, 4, 0, 0, 7))
                assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))
                with pytest.raises(ValueError, match="manifest.json cannot be read .*404"):
                    open_photos(f"{address}/elsewhere/")
                found = open_photos(address)
                (folder / "train-000003.tar").unlink()
                with pytest.raises(ValueError, match=r"train-000003\.tar breaks off after 0 photos"):
                    list(training_batches(found, 8, 4, 0, 0, 7))
            finally:
                server.shutdown()

    def test_damaged_shards(self, folder):
        found, path = open_photos(folder), folder / "train-000002.tar"
        whole = path.read_bytes()
        for end, reason in ((1300, "holds 1 photos, 4 by its manifest"), (1546, "breaks off after 0 photos")):
            path.write_bytes(whole[:end])
            with pytest.raises(ValueError, match=rf"train-000002\.tar {reason}"):
                list(training_batches(found, 8, 4, 0, 0, 7))
        with pytest.raises(ValueError, match="missing or not .* bytes long"):
            open_photos(folder)
        path.write_bytes(whole[:1024] + bytes(len(whole) - 1024))  # ends early, as if it were whole
        with pytest.raises(ValueError, match="holds 1 photos, 4 by its manifest"):
            list(training_batches(open_photos(folder), 8, 4, 0, 0, 7))

    @pytest.mark.filterwarnings("ignore:22 in")
    def test_a_broken_photo_is_no_end(self, folder):
        found = open_photos(folder)
        write_tar(folder / "train-000005.tar", [("20.png", b"broken"), ("21.jpg", encode(plain(21))), ("22.webp", b"")])
        with pytest.warns(UserWarning, match="20 in .*another photo stands in"):
            crops = torch.cat(list(training_batches(found, 8, 4, 0, 0, 6)))
        assert {20, 22}.isdisjoint(numbers(crops))
        assert len(crops) == 24

    @pytest.mark.parametrize("address", ["file:///data", "ftp://host/a.tar", "s3://bucket/train-{000000..000009}.tar"])
    def test_other_addresses_are_refused(self, address):
        with pytest.raises(ValueError, match="from a folder or from https:// and http://, got"):
            open_photos(address)

    def test_no_test_crops(self, folder):
        with pytest.raises(ValueError, match="take test crops from a folder"):
            data.test_crops(open_photos(folder), 8, "crop")

    def test_no_manifest(self, folder):
        (folder / "manifest.json").unlink()
        with pytest.raises(ValueError, match=r"manifest\.json cannot be read .* data_scripts\.imagenet writes both"):
            open_photos(f"{folder}/train-000000.tar")

    def test_without_webdataset(self, folder, monkeypatch):
        monkeypatch.setitem(sys.modules, "webdataset", None)
        with pytest.raises(ImportError, match=r"pip install 'cascade-core\[shards\]'"):
            open_photos(folder)


def test_manifest_is_plain_json(tmp_path):
    rows = [{"file": f"{name}.jpg", "size": 1, "sha256": "0", "split": "train"} for name in ("b", 'ä"')]
    manifest.write_manifest(tmp_path / "m.json", "two", "made", rows, {})
    assert json.loads((tmp_path / "m.json").read_text())["files"] == [rows[0], rows[1]]
    assert [path.name for path in tmp_path.iterdir()] == ["m.json"]
