"""The networks and the game of cascade+."""

from pathlib import Path

import pytest
import torch

from cascade_core.degradations import center_hole
from cascade_core.fills import generator_input
from cascade_core.losses import PerceptualLoss
from cascade_core.models import Cascade
from cascade_core.steps import with_all_faults
from cascade_lab import data, devices, variants
from cascade_lab.training import profiles, stages

TINY = {
    "size": 32,
    "hole": 12,
    "generator_kind": "dilated",
    "dilated_widths": (4, 6, 8),
    "generator_blocks": 2,
    "generator_fill": "laplace and mask",
    "hole_place": "free-form",
    "stage2_game": "hinge",
    "critic_widths": (4, 4, 4, 4, 4),
    "deblur_denoise_width": 4,
    "perceptual_weight": 0.1,
    "stage1_batch": 2,
    "stage2_batch": 2,
    "stage3_batch": 2,
    "stage3_patch": 16,
    "stage4_batch": 2,
    "stage1_steps": 2,
    "stage2_steps": 2,
    "stage3_steps": 2,
    "stage4_steps": 2,
    "stage4_norm_steps": 1,
    "log_every": 1,
    "save_every": 1,
}


class TestSelfEnsemble:
    @pytest.fixture
    def network(self):
        """Not symmetric in any way."""
        torch.manual_seed(0)
        return torch.nn.Conv2d(3, 3, 3, padding=1)

    def test_by_hand(self, network):
        images = torch.rand(2, 3, 5, 9)
        expected = 0
        for turns in range(4):
            turned = torch.rot90(images, turns, (2, 3))
            expected += torch.rot90(network(turned), -turns, (2, 3))
            expected += torch.rot90(network(turned.flip(2)).flip(2), -turns, (2, 3))
        torch.testing.assert_close(variants.SelfEnsemble(network)(images), expected / 8)

    def test_it_turns_and_flips_with_the_photo(self, network):
        ensemble, images = variants.SelfEnsemble(network), torch.rand(1, 3, 6, 4)
        assert not torch.allclose(network(images.flip(3)), network(images).flip(3), atol=1e-3)
        torch.testing.assert_close(ensemble(images.flip(3)), ensemble(images).flip(3))
        torch.testing.assert_close(ensemble(images.rot90(1, (2, 3))), ensemble(images).rot90(1, (2, 3)))

    def test_both_images_of_a_cascade(self):
        profile = profiles.read("smoke", TINY)
        networks = {name: stages.build(name, profile).eval() for name in ("generator", "deblur_denoise")}
        for name in ("residual.weight", "residual.bias"):
            torch.nn.init.normal_(networks["generator"].get_parameter(name), 0.0, 0.1)
        cascade, images = Cascade(**networks).eval(), torch.rand(1, 4, 32, 32)
        result, alone = variants.SelfEnsemble(cascade)(images), variants.SelfEnsemble(networks["generator"])(images)
        assert variants.SelfEnsemble(cascade).fill == "laplace and mask"
        torch.testing.assert_close(result.inpainted, alone)
        assert result._fields == ("inpainted", "restored")


class TestDilatedGenerator:
    def test_untrained_it_returns_the_fill(self):
        images = torch.rand(2, 4, 30, 42)
        torch.testing.assert_close(variants.DilatedGenerator((4, 6, 8), 2)(images), images[:, :3])

    def test_it_changes_the_hole_alone(self):
        generator = variants.DilatedGenerator((4, 6, 8), 2)
        torch.nn.init.ones_(generator.residual.bias)
        masks = center_hole(1, 32, 32, 12)
        images = generator_input(torch.rand(1, 3, 32, 32), masks, generator.fill)
        changed = (generator(images) - images[:, :3]).abs()
        torch.testing.assert_close(changed, variants.SPREAD * masks.expand(-1, 3, -1, -1))

    def test_it_sees_the_whole_of_a_hole_of_56_px(self):
        """The middle of the hole depends on what lies beyond its corners."""
        torch.manual_seed(0)
        generator = variants.DilatedGenerator((4, 4, 4), 8).double()
        for block in generator.blocks:
            torch.nn.init.normal_(block.layers[2].weight)
        torch.nn.init.normal_(generator.residual.weight)
        images = torch.rand(1, 4, 128, 128, dtype=torch.double).requires_grad_()
        images.data[:, 3] = 1
        generator.requires_grad_(False)(images)[0, 0, 64, 64].backward()
        reached = images.grad[0, :3].abs().amax(0) > 0
        assert reached[32, 32]
        assert reached[96, 96]

    def test_refusals(self):
        with pytest.raises(ValueError, match="three resolutions, got 5 widths"):
            variants.DilatedGenerator((4,) * 5)
        with pytest.raises(ValueError, match=r"\(1, 4, 8, 8\)|\(N, 4, H, W\)"):
            variants.DilatedGenerator()(torch.rand(1, 3, 8, 8))


def test_a_patch_of_the_critic_has_a_bounded_slope():
    """Spectral norm keeps every layer's gain at 1, so scores differ no more than images do, times overlap."""
    torch.manual_seed(0)
    critic = variants.PatchCritic(4)
    for _ in range(20):
        critic(torch.rand(1, 4, 32, 32))  # the norm is estimated by power iteration in training
    critic.eval()
    images = torch.rand(8, 4, 32, 32)
    scores = critic(images)
    assert scores.shape == (8, 1, 4, 4)
    for layer in critic.layers:
        if isinstance(layer, torch.nn.Conv2d):
            assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.05)


def test_hinge_loss_by_hand():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-0.5, 1.0])
    assert variants.hinge_loss(real, fake).item() == pytest.approx((0 + 0.5) / 2 + (0.5 + 2.0) / 2)


class TestHoleLoss:
    def test_by_hand(self, photos):
        features = PerceptualLoss("random")
        filled, photo, masks = photos[:2], photos[2:], center_hole(2, 64, 64, 28)
        scores = torch.tensor([1.0, 3.0])
        total, parts = variants.HoleLoss(1.0, 0.5, 0.25, features)(filled, photo, masks, scores)
        l1 = (filled - photo).abs()[:, :, 18:46, 18:46].mean()
        relative = [
            ((a - b) ** 2).mean() / (b**2).mean()
            for a, b in zip(features.maps(filled), features.maps(photo), strict=True)
        ]
        torch.testing.assert_close(parts["l1"], l1)
        torch.testing.assert_close(parts["perceptual"], sum(relative) / 4)
        torch.testing.assert_close(total, l1 + 0.5 * sum(relative) / 4 - 0.25 * 2)


@pytest.mark.parametrize(
    ("rows", "columns", "window"),
    [((4, 8), (20, 24), (0, 12)), ((26, 32), (0, 10), (20, 0)), ((10, 22), (10, 22), (10, 10))],
)
def test_the_window_holds_the_hole_and_stays_inside(rows, columns, window):
    masks = torch.zeros(1, 1, 32, 32)
    masks[..., slice(*rows), slice(*columns)] = 1
    *_, down, across = variants.window_of(masks, 12)
    top, left = min(max(sum(rows) // 2 - 6, 0), 20), min(max(sum(columns) // 2 - 6, 0), 20)
    assert down.flatten().tolist() == list(range(top, top + 12))
    assert across.tolist() == list(range(left, left + 12))
    assert masks[..., down, across].sum() == masks.sum()


@pytest.mark.parametrize(
    ("size", "hole", "sees", "side"),
    [(128, 56, "image", 128), (128, 56, "center", 64), (128, 64, "center", 96), (64, 28, "center", 64)],
)
def test_what_the_critic_sees(size, hole, sees, side):
    assert profiles.read("smoke", {"size": size, "hole": hole, "critic_sees": sees}).critic_side == side


def test_the_dilated_generator_needs_the_mask():
    with pytest.raises(ValueError, match="'dilated' needs generator_fill 'laplace and mask', got 'color'"):
        profiles.read("smoke", {**TINY, "generator_fill": "color"})


def test_all_stages_train_and_load(tmp_path):
    run = stages.train(4, profiles.read("smoke", TINY), data.open_photos(), tmp_path)
    assert isinstance(run.networks["generator"], variants.DilatedGenerator)
    (stage2,) = Path(tmp_path).glob("smoke-stage2-*")
    networks = stages.load(stage2 / "weights.safetensors")
    assert isinstance(networks["critic"], variants.PatchCritic)
    before = stages.build("generator", profiles.read("smoke", TINY))
    assert any(
        not torch.equal(a, b) for a, b in zip(before.parameters(), networks["generator"].parameters(), strict=True)
    )


class TestTheGameInStage4:
    GAME = {**TINY, "stage4_game": "hinge", "stage4_batch_norm": "plain"}

    def test_the_critic_goes_on_and_both_networks_learn(self, tmp_path):
        photos = data.open_photos()
        run = stages.train(4, profiles.read("smoke", self.GAME), photos, tmp_path)
        assert {"l1", "adversarial", "context", "critic", "critic_gradient"} <= set(run.history[-1])
        stage2 = stages.train(2, profiles.read("smoke", self.GAME), photos, tmp_path)
        stage3 = stages.train(3, profiles.read("smoke", self.GAME), photos, tmp_path)
        before = stage2.networks | stage3.networks
        assert set(run.networks) == set(before) == {"generator", "deblur_denoise", "critic"}
        for name, network in run.networks.items():
            pairs = zip(network.parameters(), before[name].parameters(), strict=True)
            assert any(not torch.equal(a, b) for a, b in pairs), name
        assert run.record["perceptual_weights"] == "random"

    def test_the_context_counts_and_the_hole_is_the_games(self):
        profile = profiles.read("smoke", self.GAME)
        networks = {name: stages.build(name, profile) for name in stages.STAGES[4].trains(profile)}
        t = stages.prepare(stages.STAGES[4], profile, devices.fabric_for("32-true", "cpu"), networks)
        photo = torch.rand(2, 3, profile.size, profile.size, generator=torch.Generator().manual_seed(0))
        masks = center_hole(2, profile.size, profile.size, profile.hole)
        t.masks = lambda photo, rng: masks
        degraded = with_all_faults(photo, profile, torch.Generator().manual_seed(1), masks)
        with torch.no_grad():
            restored = t.modules["cascade"].eval()(degraded).restored
        wanted = (restored - photo).abs()[(masks == 0).expand_as(photo)].mean()
        t.modules["cascade"].eval()
        losses = variants.joint_hinge_step(t, iter([photo]), torch.Generator().manual_seed(1))
        assert losses["context"].item() == pytest.approx(wanted.item(), rel=1e-5)

    def test_without_the_game_of_stage_2_it_is_refused(self, tmp_path):
        profile = profiles.read("smoke", {**self.GAME, "stage2_game": "wasserstein"})
        with pytest.raises(
            ValueError, match="stage4_game hinge goes on with stage 2's game, and stage2_game is wasser"
        ):
            stages.train(4, profile, data.open_photos(), tmp_path)
        assert not list(tmp_path.glob("*stage*"))
