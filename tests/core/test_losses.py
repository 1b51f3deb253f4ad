import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import VGG16_Weights, vgg16

from cascade_core.degradations import apply_mask, center_hole
from cascade_core.losses import (
    NORMALIZATIONS,
    TAPS,
    GeneratorLoss,
    PerceptualLoss,
    adversarial_loss,
    critic_loss,
    mse_loss,
)
from cascade_core.models import Critic


@pytest.fixture(scope="module")
def perceptual():
    return PerceptualLoss("random")


class TestMse:
    def test_equation_1_by_hand(self):
        output = torch.tensor([0.0, 0.5, 1.0, 0.25, 0.0, 0.0]).view(1, 3, 1, 2)
        target = torch.tensor([1.0, 0.5, 0.0, 0.75, 0.0, 0.5]).view(1, 3, 1, 2)
        assert mse_loss(output, target).item() == pytest.approx((1 + 0 + 1 + 0.25 + 0 + 0.25) / 6)

    def test_refuses_to_broadcast(self):
        with pytest.raises(ValueError, match=r"\(1, 3, 8, 8\), got \(2, 3, 8, 8\)"):
            mse_loss(torch.rand(2, 3, 8, 8), torch.rand(1, 3, 8, 8))


class TestPerceptual:
    def test_equations_2_and_3_by_hand(self, perceptual, photos):
        output, target = photos[:2], photos[2:]
        # torchvision's own VGG-16, cut before each of the first four pooling layers
        whole = vgg16(weights=None).eval()
        whole.features[:23].load_state_dict(perceptual.features.state_dict())
        mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
        std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        pools = [i for i, m in enumerate(whole.features) if isinstance(m, nn.MaxPool2d)]
        total = 0.0
        for pool, (width, side) in zip(pools[:4], [(64, 64), (128, 32), (256, 16), (512, 8)], strict=True):
            a, b = (whole.features[:pool]((x - mean) / std) for x in (output, target))
            assert a.shape[1:] == (width, side, side)
            total += ((a - b) ** 2).sum() / (side * side * width) / len(output)
        torch.testing.assert_close(perceptual(output, target), total / 4)

    def test_zero_for_equal_and_gradient_for_the_output_only(self, perceptual, photos):
        assert perceptual(photos, photos) == 0
        output, target = photos.clone().requires_grad_(), photos.flip(0).requires_grad_()
        perceptual(output, target).backward()
        assert output.grad.abs().sum() > 0
        assert target.grad is None
        assert not any(p.requires_grad for p in perceptual.parameters())

    def test_random_vgg(self):
        """Up to relu4_3, by torchvision's own initialization: He et al. by the outputs, biases at zero."""
        loss = PerceptualLoss("random")
        assert len(loss.features) == 23
        assert [type(loss.features[tap]) for tap in TAPS] == [nn.ReLU] * 4
        for module in loss.features:
            if isinstance(module, nn.Conv2d):
                assert module.weight.std().item() == pytest.approx((2 / (9 * module.out_channels)) ** 0.5, rel=0.05)
                assert module.bias.count_nonzero() == 0
        # the normalization is none of the weights, by which a record knows them
        assert {key.partition(".")[0] for key in loss.state_dict()} == {"features"}

    def test_the_default_is_the_training_on_imagenet(self, perceptual, monkeypatch):
        state = {f"features.{k}": v for k, v in perceptual.features.state_dict().items()}
        monkeypatch.setattr(VGG16_Weights, "get_state_dict", lambda self, **options: state)
        assert PerceptualLoss().weights == "imagenet"

    def test_one_seed_one_network(self, perceptual):
        state = torch.random.get_rng_state()
        again, other = PerceptualLoss("random"), PerceptualLoss("random", seed=1)
        assert torch.equal(torch.random.get_rng_state(), state)
        assert torch.equal(again.features[0].weight, perceptual.features[0].weight)
        assert not torch.equal(other.features[0].weight, perceptual.features[0].weight)

    @pytest.mark.parametrize(("name", "version"), [("caffe", "IMAGENET1K_FEATURES"), ("imagenet", "IMAGENET1K_V1")])
    def test_weights_of_torchvision(self, name, version, perceptual, monkeypatch):
        """Fetched by their hash and without a bar of their own, each under its own normalization."""
        asked, state = [], {f"features.{k}": v + 1 for k, v in perceptual.features.state_dict().items()}
        monkeypatch.setattr(
            VGG16_Weights, "get_state_dict", lambda self, **options: asked.append((self.name, options)) or state
        )
        loaded = PerceptualLoss(name)
        assert asked == [(version, {"progress": False, "check_hash": True})]
        torch.testing.assert_close(loaded.features[0].weight, perceptual.features[0].weight + 1)
        assert torch.equal(loaded.std.flatten(), torch.tensor(NORMALIZATIONS[name][1]))

    @pytest.mark.parametrize("convention", ["caffe", "imagenet"])
    @pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
    def test_weights_from_a_path(self, suffix, convention, tmp_path, perceptual):
        state = {f"features.{k}": v + 1 for k, v in perceptual.features.state_dict().items()}
        state["classifier.0.weight"] = torch.zeros(1)
        path = tmp_path / f"vgg{suffix}"
        save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
        loaded = PerceptualLoss(f"{convention}:{path}")
        torch.testing.assert_close(loaded.features[0].weight, perceptual.features[0].weight + 1)
        assert loaded.weights == f"{convention}:{path}"
        assert (loaded.std[0].item() == pytest.approx(1 / 255)) == (convention == "caffe")

    def test_the_authors_input_is_0_to_255_less_their_mean(self, tmp_path, perceptual):
        """RGB from 0 to 255 less the mean of their release; torchvision rounds it to whole gray levels."""
        path = tmp_path / "vgg.safetensors"
        save_file({f"features.{k}": v for k, v in perceptual.features.state_dict().items()}, path)
        loaded = PerceptualLoss(f"caffe:{path}")
        images = torch.rand(1, 3, 8, 8)
        wanted = 255 * images - torch.tensor([123.68, 116.779, 103.939]).view(3, 1, 1)
        assert ((images - loaded.mean) / loaded.std - wanted).abs().max() < 0.7

    def test_a_path_alone_must_name_its_normalization(self, tmp_path, perceptual):
        state = {f"features.{k}": v for k, v in perceptual.features.state_dict().items()}
        path = tmp_path / "vgg.safetensors"
        for header in (None, {"convention": "torch"}):
            save_file(state, path, header)
            with pytest.raises(RuntimeError, match=r'does not say which normalization .* "caffe:PATH"'):
                PerceptualLoss(str(path))
        save_file(state, path, {"convention": "caffe"})
        assert PerceptualLoss(str(path)).std[0].item() == pytest.approx(1 / 255)

    def test_the_center_alone(self, perceptual, photos):
        output, target = photos[:2], photos[2:]
        center = PerceptualLoss("random", side=32)
        torch.testing.assert_close(
            center(output, target), perceptual(output[..., 16:48, 16:48], target[..., 16:48, 16:48])
        )

    def test_no_silent_substitute(self, tmp_path, monkeypatch):
        def refuse(*_, **__):
            raise OSError("no network")

        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
        with pytest.raises(
            RuntimeError, match=r'imagenet cannot be had \(no network\); choose .*"random", or "caffe:PATH"'
        ):
            PerceptualLoss("imagenet")
        with pytest.raises(RuntimeError, match="No such file or directory: 'nowhere.pth'"):
            PerceptualLoss("nowhere.pth")
        torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
        with pytest.raises(RuntimeError, match="not a state dict of torchvision's VGG-16"):
            PerceptualLoss(str(tmp_path / "other.pth"))


class TestWasserstein:
    def test_equations_5_and_6_by_hand(self):
        real, fake = torch.tensor([2.0, 4.0]), torch.tensor([-1.0, 0.0])
        assert critic_loss(real, fake).item() == pytest.approx(-0.5 - 3.0)
        assert adversarial_loss(fake).item() == pytest.approx(0.5)

    def test_signs_against_each_other(self, photos):
        """A critic trained for some steps scores real images higher; a generator step then raises its own score."""
        torch.manual_seed(0)
        filled = apply_mask(photos, center_hole(4, 64, 64), (0.5, 0.5, 0.5))
        critic = Critic(64, (8, 8, 8, 8, 8), 16)
        optimizer = torch.optim.RMSprop(critic.parameters(), 5e-4)
        for _ in range(10):
            optimizer.zero_grad()
            critic_loss(critic(photos), critic(filled)).backward()
            optimizer.step()
            with torch.no_grad():
                for parameter in critic.parameters():
                    parameter.clamp_(-0.05, 0.05)
        assert critic(photos).mean() > critic(filled).mean()

        image = filled.clone().requires_grad_()  # the simplest generator: the image itself
        before = critic(image)
        adversarial_loss(before).backward()
        after = critic(image.detach() - 0.01 * image.grad / image.grad.abs().max())
        assert after.mean() > before.mean()


class TestGeneratorLoss:
    def test_equation_7_by_hand(self, perceptual, photos):
        output, target, scores = photos, photos.flip(0), torch.tensor([1.0, 2.0, 3.0, 4.0])
        total, parts = GeneratorLoss(0.5, 0.25, 0.125, perceptual)(output, target, scores)
        assert parts["adversarial"].item() == -2.5
        torch.testing.assert_close(parts["mse"], ((output - target) ** 2).mean())
        torch.testing.assert_close(parts["perceptual"], perceptual(output, target))
        torch.testing.assert_close(total, 0.5 * parts["mse"] + 0.25 * parts["perceptual"] - 0.125 * 2.5)

    def test_without_the_perceptual_part(self, photos):
        total, parts = GeneratorLoss(1.0, 0.0, 0.0, None)(photos, photos.flip(0), torch.zeros(4))
        assert "perceptual" not in parts
        torch.testing.assert_close(total, parts["mse"])
        with pytest.raises(ValueError, match="needs a PerceptualLoss"):
            GeneratorLoss(1.0, 0.1, 0.0, None)
