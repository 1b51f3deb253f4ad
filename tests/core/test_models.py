from itertools import pairwise

import pytest
import torch
from torch import nn

from cascade_core.losses import critic_loss
from cascade_core.models import Cascade, Critic, DeblurDenoiseNet, InpaintingGenerator
from cascade_core.steps import clip_weights

SMALL = (8, 8, 12, 16, 16)


def small_generator() -> InpaintingGenerator:
    return InpaintingGenerator(SMALL, num_block=2)


def trained(network: nn.Module) -> nn.Module:
    """As after some training: no layer at zero, running statistics of their own."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0.0, 0.1)
    for _ in range(3):
        network.train()(torch.rand(4, 3, 64, 64))
    return network.eval()


@pytest.mark.parametrize("make", [small_generator, lambda: DeblurDenoiseNet(8)])
class TestRestoringNetworks:
    @pytest.mark.parametrize("size", [(128, 128), (64, 96), (50, 70), (33, 31), (5, 7), (1, 1)])
    def test_any_size(self, make, size, device):
        network = make().eval().to(device)
        assert network(torch.rand(2, 3, *size, device=device)).shape == (2, 3, *size)

    def test_starts_as_the_identity(self, make, photos):
        assert torch.equal(make().eval()(photos), photos)

    def test_clips_nothing(self, make):
        network, images = trained(make()), 3 * torch.randn(2, 3, 64, 64)
        for mode in (True, False):
            output = network.train(mode)(images)
            assert output.min() < 0
            assert output.max() > 1

    def test_every_weight_gets_a_gradient(self, make, photos):
        network = trained(make()).train()
        (network(photos) - photos.flip(0)).square().mean().backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad.abs().max() > 0, name
            assert parameter.grad.isfinite().all(), name

    @pytest.mark.parametrize("shape", [(3, 64, 64), (2, 1, 64, 64), (2, 64, 64, 3)])
    def test_refuses_other_shapes(self, make, shape):
        with pytest.raises(ValueError, match=r"\(N, 3, H, W\)"):
            make()(torch.rand(shape))


class TestInpaintingGenerator:
    def test_layers_of_section_3_2(self):
        generator = InpaintingGenerator()
        down = [m for m in generator.encoder.modules() if isinstance(m, nn.Conv2d)]
        up = [m for m in generator.decoder.modules() if isinstance(m, nn.ConvTranspose2d)]
        assert len(down) == len(up) == 5
        assert len(generator.blocks) == 7
        assert sum(isinstance(m, nn.BatchNorm2d) for m in generator.encoder.modules()) == 5
        assert sum(isinstance(m, nn.LeakyReLU) for m in generator.encoder.modules()) == 5
        assert sum(isinstance(m, nn.BatchNorm2d) for m in generator.decoder.modules()) == 4  # the last one without
        assert sum(isinstance(m, nn.ReLU) for m in generator.decoder.modules()) == 4
        kinds = [type(m).__name__ for m in generator.blocks[0].layers]
        assert kinds == ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d"]

    def test_forward_by_hand(self, photos):
        g = trained(small_generator())
        e1 = g.encoder[0](photos)
        e2 = g.encoder[1](e1)
        e3 = g.encoder[2](e2)
        e4 = g.encoder[3](e3)
        d = g.decoder[0](g.blocks(g.encoder[4](e4))) + e4
        d = g.decoder[1](d) + e3
        d = g.decoder[2](d) + e2
        d = g.decoder[3](d) + e1
        by_hand = g.decoder[4](d) + photos  # the outermost skip adds the input
        torch.testing.assert_close(g(photos), by_hand)

    def test_residual_block_by_hand(self):
        block = trained(small_generator()).blocks[0]
        x = torch.randn(2, 16, 4, 4)
        torch.testing.assert_close(block(x), x + block.layers(x))

    def test_residual_block_adds_its_input(self):
        block = small_generator().blocks[0]
        nn.init.zeros_(block.layers[-1].weight)
        x = torch.randn(2, 16, 4, 4)
        assert torch.equal(block(x), x)

    def test_padding_does_not_move_the_photo(self):
        g = trained(small_generator())
        image = torch.rand(1, 3, 64, 64)
        wide = torch.cat([image, image[..., -1:].expand(-1, -1, -1, 10)], dim=-1)  # 74 px, padded to 96 inside
        longer = torch.cat([image, image[..., -1:].expand(-1, -1, -1, 32)], dim=-1)  # 96 px, not padded
        torch.testing.assert_close(g(wide), g(longer)[..., :74])

    def test_refuses_other_widths(self):
        with pytest.raises(ValueError, match="five convolutions"):
            InpaintingGenerator((8, 8))


def leaves(network: nn.Module) -> list[str]:
    """Each layer with all of its settings, in order, in the words of this version of PyTorch."""
    return [repr(module) for module in network.modules() if not list(module.children())]


class TestLayers:
    """Every layer with its kernel, stride, padding, bias and slope."""

    def test_generator(self):
        wanted, widths = [], (3, 4, 5, 6, 7, 8)
        for before, after in pairwise(widths):
            wanted += [nn.Conv2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]
        for _ in range(2):
            wanted += [nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
            wanted += [nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8)]
        for before, after in pairwise(reversed(widths[1:])):
            wanted += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        wanted.append(nn.ConvTranspose2d(4, 3, 4, 2, 1))
        assert leaves(InpaintingGenerator(widths[1:], 2)) == [*map(repr, wanted)]

    def test_critic(self):
        wanted, before = [], 3
        for after, count in ((4, 2), (5, 2), (6, 3), (7, 3), (8, 3)):
            for i in range(count):
                stride, first = 2 if i == count - 1 else 1, before == 3
                wanted.append(nn.Conv2d(before, after, 3, stride, 1, bias=first))
                wanted += [nn.LeakyReLU(0.2)] if first else [nn.BatchNorm2d(after, eps=1e-12), nn.LeakyReLU(0.2)]
                before = after
        wanted += [nn.Flatten(), nn.Linear(8 * 2 * 2, 9), nn.LeakyReLU(0.2), nn.Linear(9, 1)]
        assert leaves(Critic(64, (4, 5, 6, 7, 8), 9)) == [*map(repr, wanted)]

    def test_deblurring_denoising_network(self):
        wanted = [nn.Conv2d(3, 8, 3, 1, 1), nn.LeakyReLU(0.001)]
        wanted += 6 * [nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.LeakyReLU(0.001)]
        wanted.append(nn.Conv2d(8, 3, 3, 1, 1))
        assert leaves(DeblurDenoiseNet(8)) == [*map(repr, wanted)]


class TestCritic:
    def test_vgg_plan_of_section_3_2(self):
        critic = Critic()
        convolutions = [m for m in critic.modules() if isinstance(m, nn.Conv2d)]
        assert [m.out_channels for m in convolutions] == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
        assert [m.stride[0] for m in convolutions] == [1, 2, 1, 2, 1, 1, 2, 1, 1, 2, 1, 1, 2]
        assert {m.kernel_size for m in convolutions} == {(3, 3)}
        assert sum(isinstance(m, nn.Linear) for m in critic.modules()) == 2
        assert not any(isinstance(m, nn.MaxPool2d | nn.Sigmoid) for m in critic.modules())

    def test_one_score_an_image(self, device):
        critic = Critic(64, SMALL, 16).to(device)
        assert critic(torch.rand(3, 3, 64, 64, device=device)).shape == (3,)

    def test_scores_have_32_bits_under_autocast(self):
        with torch.autocast("cpu", torch.bfloat16):
            scores = Critic(32, SMALL, 16)(torch.rand(4, 3, 32, 32, dtype=torch.bfloat16))
        assert scores.dtype == torch.float32

    def test_learns_under_autocast_as_in_32_bits(self):
        """The clipped critic's distance between photos and flat squares, after a few steps in either precision."""
        real = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        fake, distances = real.mean((2, 3), keepdim=True).expand_as(real), []
        for low in (False, True):
            torch.manual_seed(0)
            critic = Critic(32, SMALL, 16)
            optimizer = torch.optim.RMSprop(critic.parameters(), 1e-4)
            for _ in range(12):
                with torch.autocast("cpu", torch.bfloat16, enabled=low):
                    loss = critic_loss(critic(real), critic(fake))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                clip_weights(critic, 0.03)
            distances.append(-loss.item())
        assert distances[0] > 0
        assert distances[1] == pytest.approx(distances[0], rel=0.3)  # processors round bfloat16 in ways of their own

    def test_refuses_other_sizes(self):
        with pytest.raises(ValueError, match=r"\(N, 3, 64, 64\), got \(1, 3, 32, 32\)"):
            Critic(64, SMALL, 16)(torch.rand(1, 3, 32, 32))
        with pytest.raises(ValueError, match="multiple of 32, got 100"):
            Critic(100)


class TestDeblurDenoiseNet:
    def test_layers_of_section_3_3(self):
        network = DeblurDenoiseNet()
        convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
        assert [(m.in_channels, m.out_channels) for m in convolutions] == [(3, 96)] + [(96, 96)] * 6 + [(96, 3)]
        assert {(m.kernel_size, m.stride, m.padding) for m in convolutions} == {((3, 3), (1, 1), (1, 1))}
        assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == 6  # not the first, not the last
        assert {m.negative_slope for m in network.modules() if isinstance(m, nn.LeakyReLU)} == {0.001}

    def test_residual_by_hand(self, photos):
        m = trained(DeblurDenoiseNet(8))
        e1 = m.encoder[0](photos)
        e2 = m.encoder[1](e1)
        e3 = m.encoder[2](e2)
        d = m.decoder[0](m.encoder[3](e3)) + e3
        d = m.decoder[1](d) + e2
        d = m.decoder[2](d) + e1
        torch.testing.assert_close(m(photos), photos - m.residual(d))  # y = x - M(x)


class TestCascade:
    def test_both_results_by_name(self, photos):
        generator, refiner = trained(small_generator()), trained(DeblurDenoiseNet(8))
        result = Cascade(generator, refiner).eval()(photos)
        torch.testing.assert_close(result.inpainted, generator(photos))
        torch.testing.assert_close(result.restored, refiner(generator(photos)))

    def test_without_the_second_network(self, photos):
        result = Cascade(trained(small_generator())).eval()(photos)
        assert torch.equal(result.restored, result.inpainted)

    def test_hooks_see_both_networks(self, photos):
        """So do DDP and torch.compile: the cascade calls its networks, not a method of theirs."""
        cascade, seen = Cascade(trained(small_generator()), trained(DeblurDenoiseNet(8))), []
        for name, network in cascade.named_children():
            network.register_forward_hook(lambda *_, name=name: seen.append(name))
        cascade(photos)
        assert seen == ["generator", "deblur_denoise"]

    def test_gradient_reaches_the_generators_input(self, photos):
        cascade = Cascade(trained(small_generator()), trained(DeblurDenoiseNet(8))).train()
        images = photos.clone().requires_grad_()
        cascade(images).restored.square().mean().backward()
        assert images.grad.abs().sum() > 0
        assert all(p.grad.isfinite().all() for p in cascade.parameters())
