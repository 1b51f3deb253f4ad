"""Neural patch synthesis: its matches against a search by hand, and what each term of the energy does."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cascade_core.degradations import center_hole
from cascade_lab.baselines import ContextEncoder, NeuralPatchSynthesis, context_encoder, laplace, mean
from cascade_lab.baselines.neural_patch_synthesis import (
    LAYERS,
    match,
    texture_distance,
    usable_places,
)


@pytest.fixture(scope="module")
def synthesis():
    return NeuralPatchSynthesis(mean, "random", texture=1.0, smoothness=0.0)


@pytest.fixture
def stripes():
    """(1, 3, 64, 64), 8 px wide, and the hole in their middle."""
    return (torch.arange(64) // 8 % 2).float().mul(0.6).add(0.2).expand(1, 3, 64, 64), center_hole(1, 64, 64) == 1


def by_hand(features, hole, span):
    """Indices of the patches in the hole and outside, and the nearest of these for each, by loops."""
    _, height, width = features.shape
    patches, inside, outside = [], [], []
    for y in range(height - 2):
        for x in range(width - 2):
            covered = hole[0, 0, y * span : (y + 3) * span, x * span : (x + 3) * span]
            if covered[span : 2 * span, span : 2 * span].any():
                inside.append(len(patches))
            elif not covered.any():
                outside.append(len(patches))
            patches.append(features[:, y : y + 3, x : x + 3].flatten())
    nearest = [max(outside, key=lambda j: F.cosine_similarity(patches[i], patches[j], 0)) for i in inside]
    return inside, outside, torch.stack([patches[j] for j in nearest], 1)


def test_the_layers_are_relu3_1_and_relu4_1(synthesis):
    layers = synthesis.vgg.features
    pools = [i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    assert list(LAYERS) == [pools[1] + 2, pools[2] + 2]  # pooling, convolution, ReLU
    image = torch.rand(1, 3, 64, 64)
    for index, features in synthesis.maps(image).items():
        assert features.shape[-1] == 64 // LAYERS[index]
        torch.testing.assert_close(features, layers[: index + 1]((image - synthesis.vgg.mean) / synthesis.vgg.std))


class TestMatch:
    def test_finds_what_a_search_by_hand_finds(self):
        hole = center_hole(1, 64, 64) == 1
        features = torch.rand(5, 16, 16, generator=torch.Generator().manual_seed(0))
        inside, outside, nearest = by_hand(features, hole, 4)
        places = usable_places(hole)[11]
        assert tuple(numbers.tolist() for numbers in places) == (inside, outside)
        found = match({11: features[None]}, {11: places})[11]
        assert torch.equal(found.nearest, nearest)

    def test_the_strength_of_a_patch_does_not_count(self):
        features = torch.zeros(1, 2, 3, 9)
        features[:, 0, :, :3], features[:, 0, :, 3:6], features[:, 1, :, 6:] = 1.0, 0.1, 1.0
        found = match({11: features}, {11: (torch.tensor([0]), torch.tensor([3, 6]))})[11]
        assert found.nearest.max() == pytest.approx(0.1)

    @pytest.mark.parametrize(
        ("size", "layers"),
        [(16, []), (32, [11]), (64, [11, 18]), (128, [11, 18])],  # a hole of 7/16: too few places for a patch outside
    )
    def test_layers_that_have_patches_on_both_sides(self, size, layers):
        assert list(usable_places(center_hole(1, size, size) == 1)) == layers

    def test_where_the_rim_is_narrow_the_middle_is_outside(self):
        inside, outside = usable_places(center_hole(1, 64, 64) == 1)[18]  # 8 x 8 places, 4 x 4 in the hole
        assert len(inside) == 16
        assert len(outside) == 36 - 16


class TestEnergy:
    def test_texture_comes_nearer_with_every_round(self, synthesis, stripes):
        image, hole = stripes
        content = mean(image, hole.float())
        matches = match(synthesis.maps(content), usable_places(hole))
        distances = [texture_distance(synthesis.maps(content), matches).item()]
        result = content
        for _ in range(2):
            result = synthesis.optimize(result, content, hole, matches)
            distances.append(texture_distance(synthesis.maps(result), matches).item())
        assert distances[1] < 0.9 * distances[0]
        assert distances[2] < distances[1]
        assert texture_distance(synthesis.maps(image), match(synthesis.maps(image), usable_places(hole))) < distances[2]

    def test_stripes_grow_into_a_gray_hole(self, synthesis, stripes):
        image, hole = stripes
        filled = synthesis(image, hole.float())
        columns = filled[0, :, 18:46, 18:46].mean((0, 1))  # down the stripes
        wanted = image[0, 0, 0, 18:46]
        assert torch.corrcoef(torch.stack([columns, wanted]))[0, 1] > 0.3

    def test_without_texture_and_smoothness_the_content_stays(self, photos):
        masks = center_hole(1, 64, 64)
        fill = NeuralPatchSynthesis(laplace, "random", scales=1, iterations=2, texture=0.0, smoothness=0.0)
        torch.testing.assert_close(fill(photos[:1], masks), laplace(photos[:1], masks), atol=1e-6, rtol=0)

    def test_smoothness_smooths(self, photos):
        masks = center_hole(1, 64, 64)

        def noise(images, masks):
            return torch.rand(images.shape, generator=torch.Generator().manual_seed(0))

        fill = NeuralPatchSynthesis(noise, "random", scales=1, rounds=1, iterations=5, texture=0.0, smoothness=1.0)
        before, after = (f(photos[:1], masks)[..., 20:44, 20:44] for f in (noise, fill))
        assert after.diff().square().mean() < 0.3 * before.diff().square().mean()


class TestFill:
    def test_from_coarse_to_fine(self, monkeypatch, photos):
        fill, sizes = NeuralPatchSynthesis(laplace, "random", rounds=1), []

        def record(image, content, hole, matches):
            sizes.append(image.shape[-1])
            return torch.where(hole, image + 0.125, image)

        monkeypatch.setattr(fill, "optimize", record)
        masks = center_hole(4, 64, 64)
        output = fill(photos, masks)
        assert sizes == [32, 64] * 4  # 16 px has no patch outside
        deep = (laplace(photos, masks) + 0.25)[..., 24:40, 24:40]  # away from the border, where scales mix
        assert (output[..., 24:40, 24:40] - deep).abs().mean() < 0.02

    def test_is_the_same_twice(self, photos):
        fill, masks = NeuralPatchSynthesis(laplace, "random", scales=2, iterations=1), center_hole(1, 64, 64)
        with torch.no_grad():  # as an evaluation does
            assert torch.equal(fill(photos[:1], masks), fill(photos[:1], masks))

    def test_repaints_a_context_encoder_and_refuses_what_it_refuses(self, photos):
        content = context_encoder(ContextEncoder(64, 28, widths=(8, 8, 8, 8, 8), bottleneck=16))
        fill, masks = NeuralPatchSynthesis(content, "random", rounds=1, iterations=2), center_hole(2, 64, 64)
        output, known = fill(photos[:2], masks), (masks == 0).expand(2, 3, 64, 64)
        assert torch.equal(output[known], photos[:2][known])
        assert not torch.equal(output, content(photos[:2], masks))
        with pytest.raises(ValueError, match="trained for a hole of 28 px"):
            fill(photos[:2], center_hole(2, 64, 64, 20))

    @pytest.mark.parametrize("changes", [{"scales": 0}, {"rounds": 0}, {"iterations": 0}, {"texture": -1.0}])
    def test_refuses_settings_that_cannot_work(self, changes):
        with pytest.raises(ValueError, match="must be at least 1"):
            NeuralPatchSynthesis(laplace, "random", **changes)

    def test_no_silent_substitute_for_the_vgg(self):
        with pytest.raises(RuntimeError, match="No such file or directory: .nowhere.pth"):
            NeuralPatchSynthesis(laplace, "nowhere.pth")
