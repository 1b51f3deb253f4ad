"""What must hold for any mask, size, kernel, setting and manifest: Hypothesis draws them, and shrinks what fails."""

import json
import math
import string

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import TINY

from cascade_core import degradations, fills, metrics
from cascade_core.models import DeblurDenoiseNet
from cascade_lab import baselines, data, restoration
from cascade_lab.data import manifest
from cascade_lab.data.brush import brush_masks, rectangle_masks
from cascade_lab.training import checkpoints, profiles, stages
from cascade_lab.variants import window_of

settings.register_profile("book", deadline=None, max_examples=40, derandomize=True, print_blob=True)
settings.load_profile("book")

seeds = st.integers(0, 2**31)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def attempt(call, *arguments):
    """What a call returns, or the message of its ``ValueError``; any other exception fails the test."""
    try:
        return call(*arguments), ""
    except ValueError as error:
        return None, str(error)


@st.composite
def masked(draw, least: int = 1, most: int = 24, n: int = 2):
    """Images with masks of their own, of any size; each knows at least one pixel."""
    height, width = draw(st.integers(least, most)), draw(st.integers(least, most))
    generator, share = rng(draw(seeds)), draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
    masks = (torch.rand(n, 1, height, width, generator=generator) < share).float()
    masks[..., draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))] = 0
    return torch.rand(n, 3, height, width, generator=generator), masks


class TestMasks:
    @given(masked())
    def test_the_laplace_fill_keeps_what_is_known_and_stays_in_its_range(self, drawn):
        images, masks = drawn
        missing = (masks == 1).expand_as(images)
        filled = fills.laplace(images.masked_fill(missing, math.nan), masks)  # what lies under a mask is not read
        assert torch.equal(filled[~missing], images[~missing])
        for image, known in zip(filled.unbind(), (~missing).unbind(), strict=True):
            for channel, here in zip(image, known, strict=True):
                assert channel.min() >= channel[here].min() - 1e-6
                assert channel.max() <= channel[here].max() + 1e-6

    @given(masked())
    def test_the_laplace_fill_of_one_color_is_that_color(self, drawn):
        images, masks = drawn
        flat = torch.full_like(images, 0.25)
        torch.testing.assert_close(fills.laplace(flat, masks), flat)

    @given(masked(least=8), st.sampled_from(sorted(set(baselines.INPAINTERS) - {"patchmatch"})))
    @settings(max_examples=25)
    def test_every_baseline_keeps_what_is_known(self, drawn, name):
        images, masks = drawn
        known = (masks == 0).expand_as(images)
        try:
            filled = baselines.INPAINTERS[name](images, masks)
        except ImportError:
            pytest.skip(f"{name} is not installed")
        assert torch.equal(filled[known], images[known])
        assert filled.isfinite().all()

    @given(masked(), st.tuples(*[st.floats(0, 1, width=32)] * 3))
    def test_a_hole_is_painted_and_put_back(self, drawn, color):
        images, masks = drawn
        holed = degradations.apply_mask(images, masks, color)
        assert torch.equal(metrics.composite(images, holed, masks), images)
        missing = (masks == 1).expand_as(images)
        painted = torch.tensor(color).view(3, 1, 1).expand_as(images)
        assert torch.equal(holed[missing], painted[missing])

    @given(st.integers(1, 60), st.integers(1, 60), st.data())
    def test_the_center_hole_is_a_square_in_the_center(self, height, width, draw):
        hole = draw.draw(st.integers(1, min(height, width)))
        mask = degradations.center_hole(1, height, width, hole)[0, 0]
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        assert mask.sum() == hole**2 == len(rows) * len(columns)
        for places, length in ((rows, height), (columns, width)):
            before, after = places[0].item(), length - 1 - places[-1].item()
            assert after - before in (0, 1)

    @given(st.integers(8, 64), st.integers(8, 64), seeds, st.sampled_from([brush_masks, rectangle_masks]))
    @settings(max_examples=25)
    def test_random_holes_leave_something_known(self, height, width, seed, make):
        masks = make(2, height, width, rng(seed))
        assert masks.shape == (2, 1, height, width)
        assert set(masks.unique().tolist()) == {0, 1}
        for mask in masks:
            assert 0 < mask.mean() < 1

    @given(st.integers(12, 48), st.integers(12, 48), st.integers(4, 12), seeds)
    def test_the_critics_window_lies_inside_and_around_the_hole(self, height, width, side, seed):
        masks = rectangle_masks(1, height, width, rng(seed))
        window = masks[window_of(masks, side)]
        assert window.shape[-2:] == (side, side)
        assert window.any()

    @given(st.integers(8, 90), st.integers(8, 90), seeds, st.sampled_from([0.0, 0.02, 0.5, 0.97]))
    @settings(max_examples=20)
    def test_restoring_changes_nothing_that_is_known(self, height, width, seed, share):
        draw = np.random.default_rng(seed)
        photo = draw.integers(0, 256, (height, width, 3), np.uint8)
        mask = draw.random((height, width)) < share
        mask[draw.integers(height), draw.integers(width)] = False
        profile = profiles.read("smoke", TINY)
        networks = {name: stages.build(name, profile).eval() for name in ("generator", "deblur_denoise")}
        for result in restoration.restore(photo, mask, networks, stages.sizes(profile)):
            assert np.array_equal(result[~mask], photo[~mask])


class TestKernels:
    @given(st.lists(st.tuples(*[st.floats(0, 12)] * 2), min_size=1, max_size=3), st.floats(0, 7), st.integers(0, 14))
    def test_gaussians_sum_to_1_and_are_symmetric(self, std, angle, half):
        kernels = degradations.gaussian_kernels(torch.tensor(std), torch.full((len(std),), angle), 2 * half + 1)
        assert kernels.min() >= 0
        torch.testing.assert_close(kernels.sum((1, 2, 3)), torch.ones(len(std)))
        torch.testing.assert_close(kernels, kernels.flip(2, 3))

    @given(st.integers(1, 14), st.floats(0, 1), seeds)
    def test_paths_sum_to_1_and_do_not_move_the_photo(self, half, share, seed):
        length = torch.full((3,), 2.0 * half * share)
        kernels = degradations.motion_kernels(length, 2 * half + 1, rng(seed))
        assert kernels.min() >= 0
        torch.testing.assert_close(kernels.sum((1, 2, 3)), torch.ones(3))
        places = torch.arange(2 * half + 1) - half
        for dim in (2, 3):
            mean = (kernels.sum(5 - dim).squeeze(1) * places).sum(1)
            torch.testing.assert_close(mean, torch.zeros(3), atol=1e-4, rtol=0)

    @given(st.integers(0, 5), st.integers(1, 20), st.integers(1, 20), seeds)
    def test_both_convolutions_agree_and_keep_flat_photos(self, half, more, wider, seed):
        generator = rng(seed)
        images = torch.rand(3, 3, half + more, half + wider, generator=generator)
        kernels = torch.rand(3, 1, 2 * half + 1, 2 * half + 1, generator=generator) + 1e-3
        kernels /= kernels.sum((2, 3), keepdim=True)
        direct, fourier = (
            convolve(images, kernels)
            for convolve in (degradations._convolve_directly, degradations._convolve_by_fourier)
        )
        torch.testing.assert_close(direct, fourier, atol=1e-5, rtol=0)
        flat = torch.full_like(images, 0.5)
        torch.testing.assert_close(degradations.blur(flat, kernels), flat)

    @given(st.dictionaries(st.sampled_from(list(degradations.LEVELS)), st.integers(1, 9), min_size=1), seeds)
    def test_any_shares_give_strengths_of_their_levels(self, shares, seed):
        total = sum(shares.values())
        kernels, sigma = degradations.sample({name: share / total for name, share in shares.items()}, 8, rng(seed))
        assert kernels.shape == (8, 1, degradations.KERNEL_SIZE, degradations.KERNEL_SIZE)
        ends = [degradations.LEVELS[name].sigma for name in shares]
        assert all(any(low - 1e-4 <= value <= high + 1e-4 for low, high in ends) for value in sigma.tolist())


class TestSizes:
    @given(st.integers(1, 24), st.integers(1, 24), seeds)
    @settings(max_examples=20)
    def test_the_second_network_takes_any(self, height, width, seed):
        images = torch.rand(1, 3, height, width, generator=rng(seed))
        assert DeblurDenoiseNet(4).eval()(images).shape == images.shape

    @given(st.integers(2, 90), st.integers(2, 90), st.sampled_from([16, 32]), st.sampled_from(["crop", "resize"]))
    def test_test_images_of_any_photo(self, width, height, size, mode):
        photo = Image.fromarray(np.arange(width * height * 3, dtype=np.uint8).reshape(height, width, 3))
        crops = data.test_crops([photo], size, mode)
        assert crops.shape == (1, 3, size, size)
        assert 0 <= crops.min() <= crops.max() <= 1

    @given(masked(least=11), seeds)
    def test_metrics(self, drawn, seed):
        """The squared error of the whole is that of its parts; SSIM is symmetric and at most 1."""
        images, masks = drawn
        assume(masks.mean((1, 2, 3)).min() > 0)
        other = torch.rand(images.shape, generator=rng(seed))
        part = metrics.regions(masks)
        errors = {name: 10 ** (-metrics.psnr(other, images, region) / 10) for name, region in part.items()}
        share = masks.double().mean((1, 2, 3))
        torch.testing.assert_close(errors["hole"] * share + errors["context"] * (1 - share), errors["whole"])
        torch.testing.assert_close(metrics.ssim(other, images), metrics.ssim(images, other))
        assert (metrics.ssim(other, images) <= 1).all()
        assert torch.equal(metrics.ssim(images, images), torch.ones(len(images), dtype=torch.float64))


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
anything = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=6,
)


class TestSettings:
    @given(st.dictionaries(st.sampled_from(list(profiles.SETTINGS)), anything, max_size=3))
    @settings(max_examples=300)
    def test_any_values_are_a_profile_or_one_line_that_names_the_setting(self, changes):
        profile, message = attempt(profiles.read, "smoke", changes)
        if profile is None:
            assert "\n" not in message or any("\n" in str(value) for value in changes.values())
            assert any(name in message for name in (*changes, "hole", "save_every", "generator_kind"))
            return
        again = profiles.validated({**profile.model_dump()}, "again")
        assert again == profile
        assert hash(again) == hash(profile)
        json.dumps(profiles.for_stage(profile, 1))

    @given(st.sampled_from(list(profiles.SETTINGS)), plain | st.tuples(plain, plain))
    def test_the_shell_gives_back_what_was_written(self, name, value):
        assume(value == value and "nan" not in repr(value) and "inf" not in repr(value))
        assert profiles.parse_setting(f"{name}={value!r}") == (name, value)


class TestFiles:
    """Whatever stands in a file that people or other programs write: read, or one line that names it."""

    row = st.fixed_dictionaries(
        {},
        optional={
            "file": anything | st.sampled_from(["train/a.png", "../a.png", "/a.png", "a'; touch x; '.tar", "a.tar"]),
            "size": anything,
            "sha256": anything,
            "split": anything | st.sampled_from(manifest.SPLITS),
            "photos": anything,
        },
    )
    text = st.one_of(
        st.text(alphabet=string.printable, max_size=30),
        anything.map(json.dumps),
        st.fixed_dictionaries({"files": st.lists(row | anything, max_size=3), "skipped": anything}).map(json.dumps),
    )

    @given(text)
    @settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_manifests(self, tmp_path, text):
        path = tmp_path / manifest.NAME
        path.write_text(text, "utf-8")
        found, message = attempt(manifest.read_manifest, path)
        if found is None:
            assert str(path) in message
            return
        for row in found["files"]:
            assert row["split"] in manifest.SPLITS
            assert (tmp_path / row["file"]).resolve().is_relative_to(tmp_path.resolve())
            assert not row["file"].endswith(".tar") or manifest.SHARD.fullmatch(row["file"])

    @given(anything)
    @settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_records(self, tmp_path, content):
        (tmp_path / checkpoints.RECORD).write_text(json.dumps(content))
        found, message = attempt(checkpoints.read_record, tmp_path)
        assert found or str(tmp_path / checkpoints.RECORD) in message

    @given(st.dictionaries(st.sampled_from([*stages.SIZES, "fill"]), anything, max_size=4) | anything)
    @settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_headers_of_weights(self, tmp_path, content):
        path = tmp_path / "x.safetensors"
        sizes = stages.sizes(profiles.read("smoke", TINY))
        told = sizes | content if isinstance(content, dict) else content
        state = {"deblur_denoise": DeblurDenoiseNet(4).state_dict()}
        checkpoints.save_weights(path, state, {"settings": told})
        found, message = attempt(stages.load, path)
        assert found or str(path) in message
