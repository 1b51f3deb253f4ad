"""Photos of every size, holes anywhere, and the command; networks are tiny, untrained or with random weights."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from scipy import ndimage
from torch import nn

from cascade_core import degradations
from cascade_core.conventions import from_pixels, to_pixels
from cascade_core.fills import laplace
from cascade_core.models import Cascade, InpaintingGenerator
from cascade_lab import cli, data, devices, photo_files, restoration
from cascade_lab.data.brush import brush_masks
from cascade_lab.training import checkpoints, profiles, stages

PROFILE = profiles.read(
    "smoke",
    {"size": 32, "hole": 14, "generator_widths": (4, 4, 4, 4, 4), "generator_blocks": 1, "deblur_denoise_width": 4},
)
SETTINGS = stages.sizes(PROFILE)
SIZE, HOLE = SETTINGS["size"], SETTINGS["hole"]
HOLE_COLOR = [round(255 * value) for value in SETTINGS["hole_color"]]


def build(*names: str) -> dict[str, nn.Module]:
    """Untrained: the generator returns its input, the hole's color too, and the second network its own."""
    return {name: stages.build(name, PROFILE).eval() for name in names or ("generator", "deblur_denoise")}


@pytest.fixture(scope="module")
def untrained():
    return build()


@pytest.fixture(scope="module")
def lively():
    """Networks whose output depends on all that they see."""
    networks, rng = build(), torch.Generator().manual_seed(0)
    nn.init.normal_(networks["generator"].decoder[-1].weight, 0.0, 0.1, generator=rng)
    nn.init.normal_(networks["deblur_denoise"].residual.weight, 0.0, 0.02, generator=rng)
    return networks


@pytest.fixture(scope="module")
def photo():
    """A real photo, 150 x 100 px."""
    return np.asarray(data.open_photos(None, "test")[1].resize((150, 100)))


@pytest.fixture(scope="module")
def small():
    """The same at 90 x 60 px, where holes of all kinds take half of the windows."""
    return np.asarray(data.open_photos(None, "test")[1].resize((90, 60)))


def hole_at(photo, top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros(photo.shape[:2], bool)
    mask[top : top + height, left : left + width] = True
    return mask


def masks_of(height: int, width: int) -> dict[str, np.ndarray]:
    """Holes of all kinds; each leaves something known."""
    rows, columns = np.mgrid[:height, :width]
    nothing = np.zeros((height, width), bool)
    rng = torch.Generator().manual_seed(3)
    brush = brush_masks(1, height, width, rng, (0.02, 0.1))[0, 0].bool().numpy()
    many = np.random.default_rng(0).random((height, width)) < 0.003
    return {
        "one pixel": nothing | ((rows == 1) & (columns == width - 1)),
        "scratch across": nothing | (abs(rows - height // 3) < 2),
        "diagonal": abs(rows * width - columns * height) < 2 * width,
        "frame": (rows < 3) | (rows >= height - 3) | (columns < 3) | (columns >= width - 3),
        "left half": columns < width // 2,
        "all but one pixel": (rows > 0) | (columns > 0),
        "brush": brush,
        "many": many | (rows + columns == 5),
    }


SIZES = [(60, 90), (15, 20), (7, 40), (33, 32), (60, 1100)]
CASES = [pytest.param(size, kind, id=f"{kind}, {size}") for size in SIZES for kind in masks_of(10, 10)]


class TestHoles:
    @pytest.mark.parametrize(("size", "kind"), CASES)
    def test_windows_cover_the_mask(self, size, kind):
        mask = masks_of(*size)[kind]
        painted = np.zeros_like(mask)
        for window in restoration.cover(mask, SIZE, HOLE):
            assert mask[restoration.hole_of(window, *size)].any()  # none for nothing
            painted[restoration.hole_of(window, *size)] = True
        assert painted[mask].all()

    @pytest.mark.parametrize(("size", "kind"), CASES[:32])
    def test_known_pixels_come_back_bit_for_bit(self, size, kind, lively):
        mask = masks_of(*size)[kind]
        photo = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        before = photo.copy()
        result = restoration.restore(photo, mask, lively, SETTINGS)
        assert (photo == before).all()
        for image in result:
            assert (image[~mask] == photo[~mask]).all()
            assert (image[mask] != photo[mask]).any()

    @pytest.mark.parametrize("deblur", [False, True])
    @pytest.mark.parametrize("kind", masks_of(10, 10))
    def test_pixels_under_the_mask_are_never_read(self, kind, deblur, small, lively):
        mask = masks_of(*small.shape[:2])[kind]
        other = np.where(mask[..., None], np.random.default_rng(0).integers(0, 256, small.shape, np.uint8), small)
        assert (small != other).any()
        results = (restoration.restore(x, mask, lively, SETTINGS, deblur) for x in (small, other))
        for one, two in zip(*results, strict=True):
            assert (one == two).all()

    @pytest.mark.parametrize(
        ("top", "left", "height", "width"),
        [(40, 61, HOLE, HOLE), (41, 60, HOLE, 3), (0, 0, 5, HOLE), (99, 149, 1, 1), (50, 0, 7, 8)],
    )
    def test_what_fits_is_filled_by_the_cascade_on_one_window(self, top, left, height, width, photo, lively):
        mask = hole_at(photo, top, left, height, width)
        (window,) = restoration.cover(mask, SIZE, HOLE)
        assert (window.side, window.hole) == (SIZE, HOLE)

        filled = photo.copy()
        restoration.smooth_fill(filled, mask)  # beyond the border, the border's pixels go on, and here some are missing
        padded = np.pad(filled, [(SIZE, SIZE), (SIZE, SIZE), (0, 0)], mode="edge")
        square = padded[window.top + SIZE :, window.left + SIZE :][:SIZE, :SIZE]
        images = torch.tensor(square).permute(2, 0, 1)[None] / 255
        images = degradations.apply_mask(images, degradations.center_hole(1, SIZE, SIZE, HOLE), SETTINGS["hole_color"])
        with torch.no_grad():
            expected = Cascade(**lively).eval()(images)
        result = restoration.restore(photo, mask, lively, SETTINGS)
        rows, columns = slice(top, top + height), slice(left, left + width)
        for image, wanted in zip(result, expected, strict=True):
            bytes_ = wanted[0].mul(255).round().byte().permute(1, 2, 0).numpy()
            part = bytes_[top - window.top :, left - window.left :][:height, :width]
            assert (image[rows, columns] == part).all()
        assert (result.inpainted[mask] != result.restored[mask]).any()

    def test_an_ensemble_turns_and_flips_with_the_photo(self, photo, lively):
        square = photo[:96, :96]
        mask = hole_at(square, *2 * [(96 - HOLE) // 2], HOLE, HOLE)  # in the center, where a turn leaves the window
        result = restoration.restore(square, mask, lively, SETTINGS, deblur=True, ensemble=True)
        turned = restoration.restore(np.rot90(square), np.rot90(mask), lively, SETTINGS, deblur=True, ensemble=True)
        for one, other in zip(result, turned, strict=True):
            assert np.abs(np.rot90(one).astype(int) - other).max() <= 1
        plain = restoration.restore(square, mask, lively, SETTINGS, deblur=True)
        assert (plain.inpainted != result.inpainted).any()
        assert (plain.restored[~mask] != result.restored[~mask]).any()

    def test_a_scratch_is_filled_at_full_size(self):
        scratch = masks_of(100, 150)["scratch across"]
        row = list(restoration.cover(scratch, SIZE, HOLE))
        assert len(row) == 21  # each half over the one before: 150 / 7
        assert {window.side for window in row} == {SIZE}

    def test_a_wide_mask_is_filled_by_one_large_window(self, photo):
        mask = hole_at(photo, 30, 50, 40, 44)
        (window,) = restoration.cover(mask, SIZE, HOLE)
        assert (window.hole, window.side) == (44, round(44 * SIZE / HOLE))
        assert mask[restoration.hole_of(window, *mask.shape)].sum() == mask.sum()

    def test_a_small_hole_in_a_large_photo_is_filled_at_full_size(self):
        mask = np.zeros((40, 3 * restoration.COARSE), bool)
        mask[10 : 10 + HOLE, 2001 : 2001 + HOLE] = True
        assert [window.side for window in restoration.cover(mask, SIZE, HOLE)] == [SIZE]

    def test_a_reduced_window_keeps_its_place(self, untrained):
        """A large window of a ramp is the ramp again: neither shifted nor stretched on the way down and up."""
        ramp = np.repeat(np.linspace(0, 255, 400).round().astype(np.uint8)[None, :, None], 300, 0).repeat(3, 2)
        for side in (SIZE, 3 * SIZE, 7 * SIZE + 5):
            window = restoration.Window(20, 60, side, round(side * HOLE / SIZE))
            small = restoration.cut(ramp, window, SIZE)
            painted, place = np.zeros_like(ramp), restoration.hole_of(window, *ramp.shape[:2])
            restoration.paint(small, painted, window, [], np.ones(ramp.shape[:2], bool))
            assert abs(painted[place].astype(int) - ramp[place]).max() <= 1

    def test_no_mask_nothing_to_do(self, photo, untrained):
        for image in restoration.restore(photo, None, untrained, SETTINGS):
            assert (image == photo).all()

    def test_arrays_may_be_views(self, photo, lively):
        mask = hole_at(photo, 40, 60, 10, 10)
        expected = restoration.restore(photo[::-1].copy(), mask[::-1].copy(), lively, SETTINGS, deblur=True)
        result = restoration.restore(photo[::-1], mask[::-1], lively, SETTINGS, deblur=True)
        assert (result.restored == expected.restored).all()
        assert (from_pixels(photo[::-1]) == from_pixels(photo[::-1].copy())).all()

    def test_without_a_second_network_both_images_are_the_generators(self, photo, lively):
        mask = hole_at(photo, 40, 60, 10, 10)
        result = restoration.restore(photo, mask, {"generator": lively["generator"]}, SETTINGS)
        assert (result.inpainted == result.restored).all()


class TestSeams:
    @pytest.mark.parametrize("kind", ["scratch across", "diagonal", "frame", "many"])
    def test_the_untrained_network_leaves_one_color(self, kind, small, untrained):
        mask = masks_of(*small.shape[:2])[kind]
        assert len(list(restoration.cover(mask, SIZE, HOLE))) > 10
        for image in restoration.restore(small, mask, untrained, SETTINGS):
            assert (image[mask] == HOLE_COLOR).all()

    @pytest.mark.parametrize("shape", [(56, 300), (300, 56), (200, 220)])
    def test_windows_fade_into_each_other(self, shape):
        """Each window paints one value, up to 200 levels from its neighbors': the steps within are a fade's."""
        mask = np.zeros((320, 320), bool)
        mask[10 : 10 + shape[0], 10 : 10 + shape[1]] = True
        image, values = np.zeros((*mask.shape, 3), np.uint8), np.random.default_rng(0)
        tops, lefts = (restoration.centers(10, 10 + length, 56) for length in shape)
        several = [restoration.Window(y - 64, x - 64, 128, 56) for y in tops for x in lefts]
        for window, before in restoration.with_earlier(several):
            constant = torch.full((1, 3, 128, 128), values.integers(20, 221) / 255)
            restoration.paint(constant, image, window, before, mask)
        inner = image[10 : 10 + shape[0], 10 : 10 + shape[1], 0].astype(int)
        assert np.ptp(inner) > 100
        steps = [abs(np.diff(inner, axis=axis)).max() for axis in (0, 1)]
        assert max(steps) <= 25  # a straight fade over the 28 px takes 7; without one a step is up to 200

    def test_beside_a_large_window_the_hole_has_no_rim(self, untrained):
        """On an even photo of the hole's own color, everything is that color: no window's rim, no trace of the fill."""
        photo = np.full((200, 300, 3), HOLE_COLOR, np.uint8)
        mask = hole_at(photo, 20, 30, 150, 170)
        assert (restoration.restore(photo, mask, untrained, SETTINGS).restored == HOLE_COLOR).all()


@pytest.fixture(params=["32-true", "bf16-mixed"])
def precision(request, monkeypatch):
    """Either way, whatever this hardware would choose."""
    monkeypatch.setattr(devices, "best_precision", lambda *_: request.param)
    return request.param


def in_tiles(photo, network, tile, reach):
    """The photo deblurred, put together from its tiles."""
    clean = np.zeros_like(photo)
    for rows, columns, pixels in restoration.deblurred(photo, network, tile, reach):
        clean[rows, columns] = pixels
    return clean


class TestTiles:
    @pytest.mark.parametrize("size", [(70, 53), (16, 16), (17, 40), (5, 3)])
    def test_equal_the_whole_photo(self, size, lively, precision, monkeypatch):
        photo = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        whole = restoration.restore(photo, None, lively, SETTINGS, deblur=True).restored
        with torch.no_grad():
            expected = 255 * lively["deblur_denoise"](torch.tensor(photo).permute(2, 0, 1)[None] / 255).clamp(0, 1)
        error = torch.tensor(whole).permute(2, 0, 1) - expected[0]
        if precision == "32-true":
            assert error.abs().max() < 0.501  # rounding to bytes
        else:
            assert error.square().mean().sqrt() < 0.5  # of which rounding to bytes alone makes 0.29
        assert (whole != photo).any()
        monkeypatch.setattr(restoration, "TILE", 16)
        tiled = restoration.restore(photo, None, lively, SETTINGS, deblur=True).restored
        # one level where a library adds in another order for another size, and a value lies on the edge of rounding
        assert abs(tiled.astype(int) - whole).max() <= 1
        assert (tiled != whole).mean() < 1e-3

    @pytest.mark.parametrize("corner", [0, 2])
    def test_one_pixel_less_of_overlap_is_not_enough(self, corner):
        """Every convolution looks at its corner alone, so the last one sees the pixel that is 8 px away."""
        photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        network, rng = build("deblur_denoise")["deblur_denoise"], torch.Generator().manual_seed(0)
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.zeros_(layer.weight)
                nn.init.uniform_(layer.weight[..., corner, corner], 0.0, 0.4, generator=rng)
        whole = in_tiles(photo, network, 64, 8)
        wrong = {reach: (in_tiles(photo, network, 16, reach) != whole).mean() for reach in (8, 7)}
        assert wrong[8] < 1e-3 < 1e-2 < wrong[7]

    def test_without_overlap_each_tile_is_a_photo_of_its_own(self, lively):
        photo = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
        network = lively["deblur_denoise"]
        apart = in_tiles(photo, network, 16, 0)
        for top, left in np.ndindex(2, 3):
            place = slice(16 * top, 16 * top + 16), slice(16 * left, 16 * left + 16)
            alone = in_tiles(photo[place].copy(), network, 16, 8)
            assert abs(apart[place].astype(int) - alone).max() <= 1
        assert (apart != in_tiles(photo, network, 16, 8)).any()

    @pytest.mark.parametrize(("tile", "reach"), [(0, 0), (4, 8), (16, -1)])
    def test_a_tile_must_hold_the_overlap(self, lively, tile, reach):
        with pytest.raises(ValueError, match=f"no less than the reach, got {tile} and {reach} px"):
            in_tiles(np.zeros((16, 16, 3), np.uint8), lively["deblur_denoise"], tile, reach)

    def test_holes_keep_what_the_cascade_filled_in(self, photo, lively):
        mask = hole_at(photo, 40, 60, 10, 10)
        plain = restoration.restore(photo, mask, lively, SETTINGS)
        both = restoration.restore(photo, mask, lively, SETTINGS, deblur=True)
        assert (both.inpainted == plain.inpainted).all()
        assert (both.restored[mask] == plain.restored[mask]).all()
        assert (both.restored[~mask] != photo[~mask]).any()

    def test_progress_counts_windows_and_tiles(self, photo, untrained, monkeypatch):
        monkeypatch.setattr(restoration, "TILE", 64)
        seen = []
        mask = hole_at(photo, 40, 60, 10, 10)
        restoration.restore(photo, mask, untrained, SETTINGS, True, lambda done, total: seen.append((done, total)))
        assert seen == [(i, 7) for i in range(1, 8)]  # one window, 2 x 3 tiles


class TestErrors:
    def test_mask_of_another_size(self, photo, untrained):
        with pytest.raises(ValueError, match="mask has 100 x 150 px, the photo 150 x 100"):
            restoration.restore(photo, np.ones((150, 100), bool), untrained, SETTINGS)

    def test_mask_that_hides_everything(self, photo, untrained):
        with pytest.raises(ValueError, match="hides the whole photo"):
            restoration.restore(photo, np.ones(photo.shape[:2], bool), untrained, SETTINGS)

    @pytest.mark.parametrize("shape", [(10, 10), (10, 10, 4)])
    def test_photo_without_three_channels(self, shape, untrained):
        with pytest.raises(ValueError, match=str(shape[-1])):
            restoration.restore(np.zeros(shape, np.uint8), None, untrained, SETTINGS)

    def test_network_that_is_missing(self, photo, untrained):
        mask = hole_at(photo, 1, 1, 1, 1)
        with pytest.raises(ValueError, match="hold deblur_denoise, but no generator: use those of stage 4"):
            restoration.restore(photo, mask, {"deblur_denoise": untrained["deblur_denoise"]}, SETTINGS)
        with pytest.raises(ValueError, match="no deblur_denoise"):
            restoration.restore(photo, None, {"generator": untrained["generator"]}, SETTINGS, deblur=True)


@pytest.fixture
def folder(tmp_path, photo):
    """A photo, a mask, weights of stage 4 and of stage 3."""
    Image.fromarray(photo).save(tmp_path / "photo.png")
    Image.fromarray(hole_at(photo, 40, 60, 10, 12)).save(tmp_path / "mask.png")
    about = {"settings": SETTINGS}
    checkpoints.save_weights(tmp_path / "weights.safetensors", build(), about)
    checkpoints.save_weights(tmp_path / "stage3.safetensors", build("deblur_denoise"), about)
    return tmp_path


@pytest.fixture
def command(folder, monkeypatch, capsys):
    """Calls the command in the folder; returns its exit code, standard output and standard error."""
    monkeypatch.chdir(folder)

    def call(*arguments: str) -> tuple[int, str, str]:
        defaults = {"--device": "cpu", "--weights": "weights.safetensors", "--out": "out.png"}
        added = [text for name, value in defaults.items() if name not in arguments for text in (name, value)]
        try:
            cli.main(["restore", *arguments, *added])
            code = 0
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr()

    return call


def fails(folder, command, *arguments: str) -> str:
    """The error of a call that must fail in one line and write nothing."""
    before = sorted(path.name for path in folder.iterdir())
    code, _, error = command(*arguments)
    assert code == 1
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir()) == before
    return error


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path))


class TestCommand:
    def test_fills_the_hole_and_names_the_file(self, folder, command, photo):
        code, output, error = command("photo.png", "--mask", "mask.png")
        assert (code, error) == (0, "")
        assert output.splitlines()[-1] == "out.png"
        mask, result = pixels(folder / "mask.png"), pixels(folder / "out.png")
        assert (result[~mask] == photo[~mask]).all()
        assert (result[mask] == HOLE_COLOR).all()
        assert not list(folder.glob(".*"))  # no temporary file stays

    def test_inpainted_is_the_image_between_the_networks(self, folder, command, photo, lively):
        checkpoints.save_weights(folder / "lively.safetensors", lively, {"settings": SETTINGS})
        code, _, _ = command(
            "photo.png",
            "--mask",
            "mask.png",
            "--deblur",
            "--inpainted",
            "between.png",
            "--weights",
            "lively.safetensors",
        )
        assert code == 0
        expected = restoration.restore(photo, pixels(folder / "mask.png"), lively, SETTINGS, deblur=True)
        assert (pixels(folder / "between.png") == expected.inpainted).all()
        assert (pixels(folder / "out.png") == expected.restored).all()

    def test_ensemble(self, folder, command, photo, lively):
        checkpoints.save_weights(folder / "lively.safetensors", lively, {"settings": SETTINGS})
        command("photo.png", "--mask", "mask.png", "--ensemble", "--weights", "lively.safetensors")
        expected = restoration.restore(photo, pixels(folder / "mask.png"), lively, SETTINGS, ensemble=True)
        assert (pixels(folder / "out.png") == expected.restored).all()

    def test_deblurs_without_a_mask_and_without_a_generator(self, folder, command, photo):
        code, _, _ = command("photo.png", "--deblur", "--weights", "stage3.safetensors", "--out", "out.webp")
        assert code == 0
        assert pixels(folder / "out.webp").shape == photo.shape

    def test_overwrites_only_if_told_to(self, folder, command):
        for name in ("out.png", "between.png"):
            (folder / name).write_text("mine")
            error = fails(folder, command, "photo.png", "--mask", "mask.png", "--inpainted", "between.png")
            assert f"{name} is there already; --force" in error
            assert (folder / name).read_text() == "mine"
            (folder / name).unlink()
        (folder / "out.png").write_text("mine")
        assert command("photo.png", "--mask", "mask.png", "--force")[0] == 0
        assert pixels(folder / "out.png").any()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["photo.png"], "give a --mask"),
            (["photo.png", "--mask", "mask.png", "--out", "out.xyz"], "unknown kind of picture '.xyz'"),
            (["photo.png", "--mask", "mask.png", "--out", "out"], "unknown kind of picture ''"),
            (["photo.png", "--mask", "mask.png", "--out", "no/out.png"], "there is no folder no"),
            (["photo.png", "--mask", "mask.png", "--inpainted", "out.png"], "are the same file"),
            (["photo.png", "--mask", "mask.png", "--weights", "no.safetensors"], "no.safetensors"),
            (["photo.png", "--mask", "mask.png", "--weights", "photo.png"], "photo.png holds no whole weights"),
            (
                ["photo.png", "--mask", "mask.png", "--weights", "stage3.safetensors"],
                "no generator: use those of stage 4",
            ),
            (["no.png", "--mask", "mask.png"], "no.png"),
            (["photo.png", "--mask", "no.png"], "no.png"),
            (["photo.png", "--mask", "black.png"], "black.png marks nothing"),
            (["photo.png", "--mask", "white.png"], "hides the whole photo"),
            (["photo.png", "--mask", "small.png"], "the mask has 5 x 4 px"),
            (["empty.jpg", "--deblur"], "empty.jpg: not a photo"),
            (["text.jpg", "--deblur"], "text.jpg: not a photo"),
            (["cut.jpg", "--deblur"], "cut.jpg: cannot be read"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_errors_are_one_line_and_write_nothing(self, folder, command, photo, arguments, message):
        Image.new("L", photo.shape[1::-1], 0).save(folder / "black.png")
        Image.new("L", photo.shape[1::-1], 255).save(folder / "white.png")
        Image.new("L", (5, 4), 255).save(folder / "small.png")
        Image.fromarray(photo).save(folder / "whole.jpg")
        (folder / "empty.jpg").touch()
        (folder / "text.jpg").write_text("not a photo")
        (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:1500])
        assert message in fails(folder, command, *arguments)

    def test_a_file_that_cannot_be_written(self, folder, command, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(photo_files.checkpoints, "write_atomically", full)
        assert "No space left" in fails(folder, command, "photo.png", "--mask", "mask.png")


class TestFormats:
    """The known pixels are the photo's, as every other part of the package reads it; the hole has the fill's color."""

    def check(self, folder, command, name: str, expected: np.ndarray) -> None:
        mask = hole_at(expected, 3, 5, 6, 7)
        Image.fromarray(mask).save(folder / "mask.png")
        assert command(name, "--mask", "mask.png")[0] == 0
        result = pixels(folder / "out.png")
        assert result.shape == expected.shape
        assert (result[~mask] == expected[~mask]).all()
        assert (result[mask] == HOLE_COLOR).all()

    def test_gray_of_16_bit(self, folder, command, photo):
        gray = photo[..., 0].astype(np.uint16) * 257
        Image.fromarray(gray).save(folder / "deep.tif")
        self.check(folder, command, "deep.tif", np.repeat(photo[..., :1], 3, 2))

    def test_cmyk(self, folder, command, photo):
        Image.fromarray(photo).convert("CMYK").save(folder / "print.jpg")
        self.check(folder, command, "print.jpg", pixels_of(folder / "print.jpg", "RGB"))

    def test_transparency_is_kept(self, folder, command, photo):
        """Where there is no place for it, the photo is laid over white; what was missing is opaque then."""
        alpha = np.full((*photo.shape[:2], 1), 255, np.uint8)
        alpha[50:] = 0
        alpha[4:6] = 128
        Image.fromarray(np.concatenate([photo, alpha], 2)).save(folder / "glass.png")
        Image.fromarray(mask := hole_at(photo, 3, 5, 6, 7)).save(folder / "mask.png")
        for name in ("out.png", "out.webp", "out.tif", "out.jp2"):
            code, _, error = command("glass.png", "--mask", "mask.png", "--out", name)
            assert (code, "note" in error) == (0, False)
            result = pixels(folder / name)
            assert (result[mask, 3] == 255).all()
            assert (result[~mask, 3:] == alpha[~mask]).all()
            if name != "out.webp":  # lossy
                assert (result[..., :3][~mask] == np.where(alpha, photo, 255)[~mask]).all()
                assert (result[mask, :3] == HOLE_COLOR).all()
        code, _, error = command("glass.png", "--mask", "mask.png", "--out", "out.bmp")
        assert error.count("note: out.bmp has lost of the photo its transparency (laid over white)\n") == 1
        wanted = np.rint(photo * (alpha / 255) + 255 * (1 - alpha / 255))
        assert abs(pixels(folder / "out.bmp") - wanted)[~mask].max() <= 1
        assert (pixels(folder / "out.bmp")[mask] == HOLE_COLOR).all()

    def test_palette(self, folder, command, photo):
        Image.fromarray(photo).quantize(16).save(folder / "few.gif")
        self.check(folder, command, "few.gif", pixels_of(folder / "few.gif", "RGB"))

    def test_a_turned_camera_gives_an_upright_photo(self, folder, command, photo):
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was turned by 90 degrees
        Image.fromarray(photo).save(folder / "turned.jpg", exif=exif)
        upright = np.asarray(ImageOps.exif_transpose(Image.open(folder / "turned.jpg")))
        assert upright.shape == (150, 100, 3)
        self.check(folder, command, "turned.jpg", upright)
        assert Image.open(folder / "out.png").getexif().get(0x0112, 1) == 1

    def test_smaller_than_the_window(self, folder, command, photo):
        Image.fromarray(photo[:15, :20]).save(folder / "tiny.png")
        self.check(folder, command, "tiny.png", photo[:15, :20])

    def test_the_color_profile_goes_along(self, folder, command, photo):
        from PIL import ImageCms

        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        Image.fromarray(photo).save(folder / "photo.png", icc_profile=profile)
        Image.fromarray(photo).convert("L").save(folder / "gray.png", icc_profile=profile.replace(b"RGB ", b"GRAY", 1))
        for name, expected in (("photo.png", profile), ("gray.png", None)):
            assert command(name, "--deblur", "--force")[0] == 0
            assert Image.open(folder / "out.png").info.get("icc_profile") == expected

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
    def test_exif_and_resolution_go_along(self, folder, command, photo, suffix):
        exif = Image.Exif()
        exif[0x0112], exif[0x0110], exif[0x0103] = 6, "Camera", 6  # turned; its model; a TIFF's compression
        exif.get_ifd(0x8769)[0x9003] = "2020:01:01 10:00:00"
        exif.get_ifd(0x8825)[1] = "N"
        for name in ("a.jpg", "a.tif"):
            Image.fromarray(photo).save(folder / name, exif=exif.tobytes(), dpi=(300, 300))
            code, _, error = command(name, "--deblur", "--out", f"{name}{suffix}")
            result = Image.open(folder / f"{name}{suffix}")
            found = result.getexif()
            assert (code, result.size) == (0, (100, 150))
            assert (found.get(0x0112, 1), found[0x0110]) == (1, "Camera")
            assert found.get_ifd(0x8769)[0x9003] == "2020:01:01 10:00:00"
            assert found.get_ifd(0x8825)[1] == "N"
            if suffix == ".webp":
                assert "its resolution in dots per inch" in error
            else:
                assert result.info["dpi"] == pytest.approx((300, 300), abs=0.01)

    def test_what_is_lost_is_said(self, folder, command, photo):
        from PIL import ImageCms

        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        Image.fromarray(photo[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
        exif = Image.Exif()
        exif[0x0110] = "Camera"
        Image.fromarray(photo).save(folder / "all.png", icc_profile=profile, exif=exif, dpi=(72, 72))
        Image.fromarray(photo).convert("CMYK").save(
            folder / "ink.jpg", icc_profile=profile.replace(b"RGB ", b"CMYK", 1)
        )
        lost = {"deep.png": "the depth of 16 bits", "ink.jpg": "its color profile (it is for CMYK, not RGB)"}
        for name, what in lost.items():
            assert what in command(name, "--deblur", "--force")[2]
        frames = [Image.fromarray(photo), Image.fromarray(photo[::-1])]
        frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
        assert "all frames but the first" in command("moving.gif", "--deblur", "--force")[2]
        error = command("all.png", "--deblur", "--out", "out.ppm")[2]
        assert "its color profile, its EXIF data, its resolution" in error

    @pytest.mark.parametrize("dpi", [(0, 0), (1e9, 1e9)])
    def test_metadata_that_cannot_be_is_left_out(self, folder, command, photo, dpi):
        exif = Image.Exif()
        exif[0x010E] = "x" * 70_000
        Image.fromarray(photo).save(folder / "photo.tif", exif=exif.tobytes(), dpi=dpi)
        code, _, error = command("photo.tif", "--deblur", "--out", "out.jpg")
        assert code == 0
        assert "its EXIF data (too long)" in error


class TestMasks:
    def fill(self, folder, command, photo, mask: Image.Image) -> np.ndarray:
        """Which pixels the command takes for missing."""
        mask.save(folder / "drawn.png")
        assert command("photo.png", "--mask", "drawn.png", "--force")[0] == 0
        return (pixels(folder / "out.png") != photo).any(2)

    def test_white_strokes_on_transparent_ground(self, folder, command, photo):
        mask = hole_at(photo, 20, 30, 5, 40)
        for ground in (0, 255):  # paint programs differ in the color of what is transparent
            drawn = np.full((*mask.shape, 4), (ground, ground, ground, 0), np.uint8)
            drawn[mask] = 255
            found = self.fill(folder, command, photo, Image.fromarray(drawn))
            assert not found[~mask].any()
            assert found[mask].mean() > 0.9

    def test_gray_edges_count_from_half_on_as_in_arrays(self, folder, command, photo, untrained):
        gray = np.full(photo.shape[:2], 20, np.uint8)
        gray[40:50, 60:70], gray[40:50, 59], gray[40:50, 70] = 250, 127, 128
        found = self.fill(folder, command, photo, Image.fromarray(gray))
        assert not found[:, 59].any()
        assert found[40:50, 70].any()
        for values in (gray, gray / 255, gray > 127):
            result = restoration.restore(photo, values, untrained, SETTINGS).restored
            assert ((result != photo).any(2) == found).all()

    def test_arrays_that_may_be_meant_otherwise_are_refused(self):
        with pytest.raises(ValueError, match="bytes of 0 and 1 alone"):
            restoration.as_mask(np.eye(3, dtype=np.uint8))
        with pytest.raises(ValueError, match="got int64"):
            restoration.as_mask(np.eye(3, dtype=np.int64))
        assert not restoration.as_mask(np.zeros((2, 2), np.uint8)).any()

    def test_hint_where_it_looks_inverted(self, folder, command, photo):
        inverted = ~hole_at(photo, 40, 60, 10, 12)
        Image.fromarray(inverted).save(folder / "mask.png")
        code, _, error = command("photo.png", "--mask", "mask.png")
        assert code == 0
        assert "note: mask.png marks 99% of the photo as missing; if it is inverted" in error

    @pytest.mark.parametrize("fill", ["color", "laplace and mask"])
    @pytest.mark.parametrize("kind", masks_of(10, 10))
    def test_any_mask_with_any_fill(self, fill, kind, small):
        """A small copy of a window may hold no known pixel: then the square in its center is hidden."""
        settings = {**SETTINGS, "generator_fill": fill}
        networks = {"generator": stages.build("generator", PROFILE.changed(generator_fill=fill)).eval()}
        mask = masks_of(*small.shape[:2])[kind]
        result = restoration.restore(small, mask, networks, settings).restored
        assert (result[~mask] == small[~mask]).all()


class TestNeighborsShareAWindow:
    def test_dots_that_fit_into_one_hole(self):
        mask = np.zeros((200, 200), bool)
        mask[50, 60] = mask[50 + HOLE - 1, 60] = mask[50, 60 + HOLE - 1] = True
        (window,) = restoration.cover(mask, SIZE, HOLE)
        assert restoration.hole_of(window, *mask.shape) == (slice(50, 50 + HOLE), slice(60, 60 + HOLE))
        mask[50, 60 + HOLE] = True  # one pixel too far, and an island of its own
        mask[50, 60 + HOLE - 1] = False
        assert len(list(restoration.cover(mask, SIZE, HOLE))) == 2

    def test_dust_takes_as_many_windows_as_squares_fit_into_the_photo(self):
        dust = np.random.default_rng(0).random((300, 300)) < 0.01
        row = list(restoration.cover(dust, SIZE, HOLE))
        assert len(row) < 1.5 * (300 / HOLE) ** 2 < ndimage.label(dust, np.ones((3, 3)))[1]
        assert {window.side for window in row} == {SIZE}

    def test_what_does_not_fit_keeps_its_windows_and_its_turn(self):
        mask = masks_of(100, 150)["scratch across"]
        alone = list(restoration.cover(mask, SIZE, HOLE))
        mask = mask | hole_at(mask, 2, 3, 4, 4) | hole_at(mask, 8, 10, 4, 4) | hole_at(mask, 60, 40, 30, 33)
        several = list(restoration.cover(mask, SIZE, HOLE))
        assert len(several) == len(alone) + 2
        assert restoration.hole_of(several[0], *mask.shape) == (slice(0, 14), slice(1, 15))
        assert several[1:-1] == alone
        assert several[-1].hole == 33


class TestDust:
    """A generator that sees the mask fills small parts in all of its window but the second network's reach."""

    SQUARE = 128 - 2 * restoration.REACH

    def test_takes_a_quarter_of_the_windows(self):
        dust = np.random.default_rng(0).random((600, 600)) < 0.01
        blind, seeing = (list(restoration.cover(dust, 128, 56, seen)) for seen in (False, True))
        assert len(seeing) <= 1.3 * (600 / self.SQUARE) ** 2 < 0.33 * len(blind)
        painted = np.zeros_like(dust)
        for window in seeing:
            assert (window.side, window.hole) == (128, self.SQUARE)
            painted[restoration.hole_of(window, *dust.shape)] = True
        assert painted[dust].all()

    def test_is_filled_as_by_the_laplace_fill_of_the_whole_photo(self):
        """Which the untrained networks return; a pixel that no window paints keeps the fill of a coarse copy."""
        networks = {"generator": InpaintingGenerator((4,) * 5, 1, "laplace and mask").eval()}
        photo = np.random.default_rng(1).integers(0, 256, (300, 400, 3), np.uint8)
        dust = np.random.default_rng(0).random(photo.shape[:2]) < 0.01
        dust[[0, -1]] = dust[:, [0, -1]] = False  # a window goes on beyond the photo, the whole photo's fill does not
        restored = restoration.restore(photo, dust, networks, {**SETTINGS, "size": 128, "hole": 56}).restored
        wanted = to_pixels(laplace(from_pixels(photo), torch.from_numpy(dust)[None, None].float()))[0]
        assert abs(restored.astype(int) - wanted).max() <= 1

    @pytest.mark.parametrize("kind", masks_of(10, 10))
    def test_what_takes_no_fewer_windows_keeps_its_own(self, kind):
        mask = masks_of(200, 300)[kind]
        blind, seeing = (list(restoration.cover(mask, 128, 56, seen)) for seen in (False, True))
        assert (seeing == blind) == (kind != "many")
        if kind == "many":
            assert len(seeing) < len(blind)

    def test_a_larger_part_keeps_its_window_beside_dust(self):
        mask = np.random.default_rng(0).random((300, 300)) < 0.01
        mask[95:145, 95:145] = False
        mask[100:140, 100:140] = True
        windows = list(restoration.cover(mask, 128, 56, True))
        assert windows[0].hole == 56
        assert restoration.hole_of(windows[0], *mask.shape) == (slice(92, 148), slice(92, 148))
        assert {window.hole for window in windows[1:]} == {self.SQUARE}


class TestOutputs:
    @pytest.fixture(autouse=True)
    def place(self, folder):
        (folder / "sub").mkdir()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--out", "sub.png", "--force"], "sub.png is not a file"),
            (["--out", "x" * 246 + ".png"], "cannot be written: File name too long"),
            (["--out", "y" * 300 + ".png"], "File name too long"),
            (["--out", "a.png", "--inpainted", "sub/../a.png"], "sub/../a.png are the same file"),
            (["--out", "photo.png", "--force"], "photo.png and photo.png are the same file"),
            (["--out", "link.png", "--force"], "link.png and mask.png are the same file"),
            (["--out", "weights.safetensors", "--force"], "are the same file"),
            *((["--out", f"a{x}"], f"unknown kind of picture '{x}'") for x in (".gif", ".pgm", ".pbm", ".pfm", ".pdf")),
            (["--out", "a.png", "--inpainted", "no/a.png"], "there is no folder no"),
            (["--out", "/proc/a.png"], "/proc/a.png cannot be written"),
        ],
        ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
    )
    def test_are_refused_before_the_work(self, folder, command, monkeypatch, arguments, message):
        (folder / "sub.png").mkdir()
        (folder / "link.png").symlink_to("mask.png")
        monkeypatch.setattr(photo_files, "read_photo", None)  # not even the photo is read
        assert message in fails(folder, command, "photo.png", "--mask", "mask.png", *arguments)

    @pytest.mark.parametrize(("name", "side"), [("out.webp", 16384), ("out.jpg", 65501)])
    def test_too_long_for_their_kind(self, folder, command, name, side):
        Image.new("RGB", (side, 2)).save(folder / "long.png")
        assert f"at most {side - 1} px a side" in fails(folder, command, "long.png", "--deblur", "--out", name)

    def test_a_link_is_followed(self, folder, command):
        (folder / "sub" / "real.png").touch()
        (folder / "link.png").symlink_to("sub/real.png")
        assert command("photo.png", "--deblur", "--out", "link.png", "--force")[0] == 0
        assert (folder / "link.png").is_symlink()
        assert pixels(folder / "sub" / "real.png").shape == (100, 150, 3)

    def test_a_network_that_has_diverged_is_named_by_its_file(self, folder, command):
        networks = build()
        nn.init.constant_(networks["generator"].decoder[-1].weight, float("nan"))
        checkpoints.save_weights(folder / "nan.safetensors", networks, {"settings": SETTINGS})
        nn.init.constant_(networks["deblur_denoise"].residual.weight, float("nan"))
        checkpoints.save_weights(
            folder / "nan3.safetensors", {"deblur_denoise": networks["deblur_denoise"]}, {"settings": SETTINGS}
        )
        for arguments in (
            ("--mask", "mask.png", "--weights", "nan.safetensors"),
            ("--deblur", "--weights", "nan3.safetensors"),
        ):
            error = fails(folder, command, "photo.png", *arguments)
            assert f"{arguments[-1]}: " in error
            assert "is not a number, the training has diverged" in error


ODD = {
    "empty.png": b"",
    "text.png": b"not a picture",
    "html.jpg": b"<!DOCTYPE html><html>Please log in</html>",
    "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n",
    "pdf.png": b"%PDF-1.4\n",
    "huge.ppm": b"P6 999999999 999999999 255\n",
    "large.ppm": b"P6 30000 30000 255\n\0",
    "negative.ppm": b"P6 -5 5 255\n",
    "zero.ppm": b"P6 0 0 255\n",
    "signature.png": b"\x89PNG\r\n\x1a\n",
    "header.png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x7f\xff\0\0\x7f\xff\x08\x02\0\0\0" + b"\0" * 30,
    "start.jpg": b"\xff\xd8\xff\xe0\0\x10JFIF",
    "start.gif": b"GIF89a\1\0\1\0",
    "start.tif": b"II*\0\x08\0\0\0",
    "loop.tif": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "start.webp": b"RIFF\x10\0\0\0WEBPVP8 ",
    "start.bmp": b"BM" + b"\0" * 60,
    "start.jp2": b"\0\0\0\x0cjP  \r\n\x87\n" + b"\xff" * 40,
    "zip.png": b"PK\3\4" + b"\0" * 40,
    "noise.png": bytes(range(256)) * 9,
}


def odd_files(folder, photo) -> list[str]:
    """Some thirty files that are no photo, and their like; returns their names."""
    for name, content in ODD.items():
        (folder / name).write_bytes(content)
    for kind in ("png", "jpg", "webp", "tif", "gif", "bmp", "ppm", "jp2"):
        Image.fromarray(photo).save(folder / f"whole.{kind}")
        content = (folder / f"whole.{kind}").read_bytes()
        (folder / f"whole.{kind}").unlink()
        (folder / f"cut.{kind}").write_bytes(content[: len(content) // 2])
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "dangling.png").symlink_to("nowhere")
    (folder / "circle.png").symlink_to("circle.png")
    (folder / "device.png").symlink_to("/dev/zero")
    special = ["folder.png", "pipe.png", "dangling.png", "circle.png", "device.png"]
    return [*ODD, *special, *(f"cut.{kind}" for kind in ("png", "jpg", "webp", "tif", "gif", "bmp", "ppm", "jp2"))]


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes in folders")
def test_odd_files_end_in_one_line(folder, command, photo):
    for name in odd_files(folder, photo):
        for arguments in (
            (name, "--deblur"),
            ("photo.png", "--mask", name),
            ("photo.png", "--deblur", "--weights", name),
        ):
            code, _, error = command(*arguments, "--force")
            assert code in (0, 1), name  # some kinds can be read as far as they go
            assert ("Traceback" in error, error.count("error: ")) == (False, code), (arguments, error)
            if code:
                assert name in error


def pixels_of(path, mode: str) -> np.ndarray:
    return np.asarray(Image.open(path).convert(mode))


MEASURE = """
import resource, sys
from pathlib import Path
import numpy as np
from cascade_lab import restoration
from cascade_lab.training import checkpoints, stages

weights = Path("weights.safetensors")
networks, settings = stages.load(weights), checkpoints.read_about(weights)["settings"]
for height, width in ((1225, 1633), (3000, 4000)):
    photo, mask = np.empty((height, width, 3), np.uint8), np.zeros((height, width), bool)
    photo[:] = (np.arange(width) % 200).astype(np.uint8)[:, None]
    mask[:, 50:66] = mask[200 : height // 2, 300 : width // 2] = True
    restoration.restore(photo, mask, networks, settings, deblur=True, in_place=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell a process's peak memory")
def test_a_large_photo_takes_no_more_than_its_own_memory(folder):
    """12 megapixels beside 2: the difference is the photo and its mask, 40 MB, and what the allocator loses."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", MEASURE]
    output = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout
    small, large = map(int, output.split())
    print("MB", (large - small) / 1e6)
    assert large - small < 80e6
