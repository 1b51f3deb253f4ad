"""Layer tables: parameters, sizes and multiply-accumulates, counted by hand."""

import pytest
import torch
from torch import nn

from cascade_core.models import Critic, DeblurDenoiseNet, InpaintingGenerator
from cascade_lab.show import layers


@pytest.mark.parametrize(
    ("layer", "shape", "parameters", "macs"),
    [
        (nn.Conv2d(3, 5, 3, stride=2, padding=1), (3, 8, 12), 3 * 5 * 9 + 5, 3 * 5 * 9 * 4 * 6),  # output places
        (nn.ConvTranspose2d(3, 5, 4, 2, 1, bias=False), (3, 8, 12), 3 * 5 * 16, 3 * 5 * 16 * 8 * 12),  # input places
        (nn.Linear(7, 4), (7,), 7 * 4 + 4, 7 * 4),
    ],
    ids=["convolution", "transposed convolution", "fully connected"],
)
def test_one_layer_by_hand(layer, shape, parameters, macs):
    row = layers.table(nn.Sequential(layer), *shape).loc["0"]
    assert (row["kind"], row["parameters"], row["MACs"]) == (type(layer).__name__, parameters, macs)
    assert layers.macs(layer, *shape) == macs
    assert layers.parameters(layer) == parameters


def test_a_network_by_hand():
    total = layers.table(DeblurDenoiseNet(), 3, 128, 128).loc["total"]
    assert total["parameters"] == sum(p.numel() for p in DeblurDenoiseNet().parameters()) == 504_099
    assert total["MACs"] == (3 * 96 + 6 * 96 * 96 + 96 * 3) * 9 * 128 * 128


def test_transposed_convolution_of_the_generator():
    row = layers.table(InpaintingGenerator(), 3, 128, 128).loc["decoder.0.0"]
    assert row["output"] == "256 × 8 × 8"
    assert row["MACs"] == 512 * 256 * 16 * 4 * 4  # each of 4 x 4 places through a kernel of 4 x 4


def test_sizes_follow_the_image():
    table = layers.table(InpaintingGenerator(), 3, 64, 64)
    sizes = list(table[table["kind"] == "Conv2d"]["output"])[:5]
    assert sizes == ["64 × 32 × 32", "64 × 16 × 16", "128 × 8 × 8", "256 × 4 × 4", "512 × 2 × 2"]


def test_the_total_is_the_sum():
    table = layers.table(Critic(64, (4, 6, 8, 10, 12), 20), 3, 64, 64)
    numbers = table[["parameters", "MACs"]]
    assert (numbers.iloc[:-1].sum() == numbers.loc["total"]).all()
    assert list(table.index[-3:]) == ["score.1", "score.3", "total"]


def test_leaves_the_network_and_random_numbers_as_they_were():
    network = DeblurDenoiseNet(8).train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    state = torch.get_rng_state()
    layers.table(network, 3, 32, 32)
    assert network.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_takes_a_network_on_any_device(device):
    assert layers.macs(nn.Conv2d(3, 4, 3).to(device), 3, 8, 8) == 3 * 4 * 9 * 6 * 6
