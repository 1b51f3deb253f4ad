"""The Context Encoder: its network, what it fills and refuses, and a small training of it."""

import dataclasses
import sys

import pytest
import torch
from tiny import TINY, job, settings

from cascade_core.degradations import center_hole
from cascade_lab import cli, data, devices
from cascade_lab.baselines import ContextEncoder, context_encoder, mean
from cascade_lab.baselines.context_encoder import Discriminator, cross_entropy, overlap_loss
from cascade_lab.data.brush import brush_masks
from cascade_lab.training import checkpoints, profiles, stages

SMALL = TINY | {
    "generator_widths": (8, 8, 8, 16, 16),
    "context_encoder_bottleneck": 32,
    "stage1_steps": 20,
    "stage2_steps": 4,
    "stage1_batch": 4,
}


@pytest.fixture(scope="module")
def wheel():
    return data.open_photos(None, "train")


@pytest.fixture(scope="module")
def run(wheel, tmp_path_factory):
    return stages.train("context_encoder", profiles.read("smoke", SMALL), wheel, tmp_path_factory.mktemp("runs"))


@pytest.fixture
def small(photos):
    return photos[..., 16:48, 16:48]


@pytest.fixture
def fill():
    torch.manual_seed(0)
    return context_encoder(ContextEncoder(32, 14, widths=(8, 8, 8, 8, 8), bottleneck=16))


class TestNetwork:
    def test_has_the_original_weights_at_128_px(self):
        with torch.device("meta"):
            network, judge = ContextEncoder(), Discriminator()
        ways = [3 * 64, 64 * 64, 64 * 128, 128 * 256, 256 * 512, 512 * 4000, 4000 * 512, 512 * 256, 256 * 128, 128 * 64]
        norms = [64, 128, 256, 512, 4000, 512, 256, 128, 64]
        assert sum(p.numel() for p in network.parameters()) == 16 * (sum(ways) + 64 * 3) + 2 * sum(norms)
        ways = [3 * 64, 64 * 128, 128 * 256, 256 * 512, 512]
        assert sum(p.numel() for p in judge.parameters()) == 16 * sum(ways) + 2 * (128 + 256 + 512)

    @pytest.mark.parametrize("size", [32, 64, 96, 128])
    def test_predicts_the_center_half(self, size):
        network = ContextEncoder(size, size // 4, widths=(4, 4, 4, 4, 4), bottleneck=8)
        predicted = network(torch.rand(2, 3, size, size))
        assert predicted.shape == (2, 3, size // 2, size // 2)
        assert ((predicted > 0) & (predicted < 1)).all()
        assert Discriminator(size, (4, 4, 4, 4, 4))(predicted).shape == (2,)

    @pytest.mark.parametrize(
        ("size", "hole", "message"),
        [
            (48, 14, "multiple of 32, got 48"),
            (64, 33, "center 32 px of 64: hole .* got 33"),
            (64, 0, "hole must be 1 to that, got 0"),
        ],
    )
    def test_refuses_sizes_that_cannot_work(self, size, hole, message):
        with pytest.raises(ValueError, match=message):
            ContextEncoder(size, hole)

    def test_losses_by_hand(self):
        target, holes = torch.zeros(1, 3, 4, 4), center_hole(1, 4, 4, 2)
        inside = holes.expand(1, 3, 4, 4) * 0.5
        assert overlap_loss(inside, target, holes).item() == pytest.approx(4 / 16)  # an error of 1 in [-1, 1]
        assert overlap_loss(0.5 - inside, target, holes).item() == pytest.approx(10 * 12 / 16)
        probabilities = torch.tensor([0.9, 0.2])
        expected = -(torch.tensor(0.9).log() + torch.tensor(0.2).log()) / 2
        torch.testing.assert_close(cross_entropy(probabilities.logit(), 1.0), expected)
        torch.testing.assert_close(cross_entropy(-probabilities.logit(), 0.0), expected)


class TestFill:
    def test_takes_the_hole_alone_from_the_prediction(self, fill, small):
        """The rim that it predicts and sees is known, so it stays as it was."""
        masks = center_hole(4, 32, 32, 14)
        output = fill(small, masks)
        known = (masks == 0).expand_as(small)
        assert torch.equal(output[known], small[known])
        assert (output != small)[~known].float().mean() > 0.9
        assert ((output >= 0) & (output <= 1)).all()

    def test_never_reads_under_the_mask(self, fill, small):
        masks = center_hole(4, 32, 32, 14)
        for hidden in (0.0, torch.nan):
            assert torch.equal(fill(torch.where(masks == 1, hidden, small), masks), fill(small, masks))

    def test_treats_each_image_alone(self, fill, small):
        masks = center_hole(4, 32, 32, 14)
        alone = torch.cat([fill(image[None], masks[:1]) for image in small])
        torch.testing.assert_close(fill(small, masks), alone)

    def test_fills_an_empty_batch(self, fill):
        assert fill(torch.zeros(0, 3, 32, 32), torch.zeros(0, 1, 32, 32)).shape == (0, 3, 32, 32)

    @pytest.mark.parametrize(
        "masks",
        [
            center_hole(4, 32, 32, 12),
            center_hole(4, 32, 32, 14).roll(1, -1),
            brush_masks(4, 32, 32, torch.Generator().manual_seed(0)),
            torch.zeros(4, 1, 32, 32),
        ],
        ids=["smaller", "beside", "free-form", "none"],
    )
    def test_refuses_other_masks(self, fill, small, masks):
        with pytest.raises(ValueError, match="trained for a hole of 14 px in the center of 32 px"):
            fill(small, masks)

    def test_refuses_other_sizes(self, fill, photos):
        with pytest.raises(ValueError, match=r"14 px in the center of 32 px.*\(4, 3, 64, 64\)"):
            fill(photos, center_hole(4, 64, 64))


class TestTraining:
    def test_takes_the_steps_of_stages_1_and_2(self, run):
        assert set(run.networks) == {"context_encoder", "discriminator"}
        assert run.record["steps"] == 24
        assert [point["step"] for point in run.history] == list(range(2, 25, 2))
        assert set(run.record["settings"]) >= {"stage1_steps", "stage2_steps", "stage1_batch", "context_encoder_rate"}
        assert run.history[-1]["reconstruction"] < run.history[0]["reconstruction"]

    def test_the_weights_file_knows_the_hole(self, run, small):
        network = stages.load(run.folder / checkpoints.WEIGHTS)["context_encoder"]
        assert (network.size, network.hole) == (32, 14)
        masks = center_hole(4, 32, 32, 14)
        trained = context_encoder(run.networks["context_encoder"])
        assert torch.equal(context_encoder(network)(small, masks), trained(small, masks))

    def test_learns(self, wheel, tmp_path):
        """On photos that it never saw, some hundred steps are worth more than the mean of the context."""
        changes = {"generator_widths": (16, 16, 32, 32, 64), "context_encoder_bottleneck": 128, "stage1_batch": 8}
        longer = profiles.read("smoke", {**SMALL, **changes, "stage1_steps": 300})
        run = stages.train("context_encoder", longer, wheel, tmp_path)
        fill = context_encoder(run.networks["context_encoder"])
        portrait_and_cat = data.open_photos(None, "test")[:2]  # seven photos teach little about a palace or a flower
        crops = data.test_crops(portrait_and_cat, 32, "grid")
        masks = center_hole(len(crops), 32, 32, 14)
        assert (fill(crops, masks) - crops).square().mean() < 0.95 * (mean(crops, masks) - crops).square().mean()
        assert run.history[-1]["discriminator"] < 1.37  # 2 log 2 = 1.386 is guessing

    def test_the_adversarial_loss_pleases_the_discriminator(self, photos, monkeypatch):
        monkeypatch.setattr(sys.modules["cascade_lab.baselines.context_encoder"], "RECONSTRUCTION", 0.0)
        plan, profile = stages.TRAININGS["context_encoder"], profiles.read("smoke", SMALL)
        networks = {name: stages.build(name, profile) for name in plan.networks}
        t = stages.prepare(plan, profile, devices.fabric_for(profile.precision, "cpu"), networks)
        t.optimizers["discriminator"].param_groups[0]["lr"] = 0.0
        batch = photos[..., 16:48, 16:48]
        losses = [plan.step(t, iter([batch]), torch.Generator())["adversarial"].item() for _ in range(20)]
        assert losses[-1] < losses[0]
        assert all(p.requires_grad for p in networks["discriminator"].parameters())

    def test_a_run_that_was_cut_ends_in_the_same_bits(self, run, wheel, tmp_path, monkeypatch):
        plan = stages.TRAININGS["context_encoder"]

        def cut(t, photos, rng):
            if t.step == 10:
                raise KeyboardInterrupt
            return plan.step(t, photos, rng)

        profile = profiles.read("smoke", SMALL)
        with monkeypatch.context() as patch:
            patch.setitem(stages.TRAININGS, "context_encoder", dataclasses.replace(plan, step=cut))
            with pytest.raises(KeyboardInterrupt):
                stages.train("context_encoder", profile, wheel, tmp_path)
        (saved,) = tmp_path.glob("*/resume.pt")
        assert torch.load(saved)["step"] == 8
        again = stages.train("context_encoder", profile, wheel, tmp_path)
        assert again.folder.name == run.folder.name
        for name in (checkpoints.WEIGHTS, checkpoints.LOSSES):
            assert (again.folder / name).read_bytes() == (run.folder / name).read_bytes()

    def test_its_settings_decide_nothing_else(self, wheel, tmp_path):
        def folders(changes):
            profile = profiles.read("smoke", {**SMALL, **changes})
            return {s: stages.folder_of(s, job(profile, wheel, tmp_path)).name for s in stages.TRAININGS}

        base, rate, refiner = (
            folders({}),
            folders({"context_encoder_rate": 1e-4}),
            folders({"deblur_denoise_width": 24}),
        )
        assert {s for s in base if rate[s] != base[s]} == {"context_encoder"}
        assert {s for s in base if refiner[s] != base[s]} == {3, 4}
        assert base["context_encoder"].startswith("smoke-context_encoder-")

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"hole": 20}, "predicts the center 16 px of 32: hole must be 1 to that, got 20"),
            ({"stage1_batch": 1}, "stage1_batch must be at least 2, got 1"),
        ],
    )
    def test_what_cannot_be_trained_is_told_before_the_first_step(self, changes, message, wheel, tmp_path):
        with pytest.raises(ValueError, match=message):
            stages.train("context_encoder", profiles.read("smoke", {**SMALL, **changes}), wheel, tmp_path)
        assert not list(tmp_path.iterdir())

    def test_from_the_shell(self, tmp_path, capsys):
        with pytest.raises(SystemExit) as end:
            cli.main(["train", "context_encoder", "--device", "cpu", "--out", str(tmp_path), *settings(SMALL)])
        assert not end.value.code
        assert capsys.readouterr().out.splitlines()[-1].startswith("Context Encoder: ")
        assert len(list(tmp_path.glob("smoke-context_encoder-*/record.json"))) == 1
