"""Layer by layer: what a network is made of, and the work that it takes."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Layer(NamedTuple):
    """One row of a summary; ``size`` is the output's, without the batch; multiply-adds are for one image."""

    name: str
    kind: str
    size: tuple[int, ...]
    parameters: int
    multiply_adds: int


class Summary(NamedTuple):
    """The layers of a network in the order in which they run, and their sums."""

    layers: list[Layer]
    parameters: int
    multiply_adds: int

    def __str__(self) -> str:
        rows = [("layer", "kind", "output", "parameters", "multiply-adds")]
        rows += [
            (r.name, r.kind, " x ".join(map(str, r.size)), f"{r.parameters:,}", f"{r.multiply_adds:,}")
            for r in (*self.layers, Layer("total", "", (), self.parameters, self.multiply_adds))
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        return "\n".join(
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}}  {e:>{widths[4]}}"
            for a, b, c, d, e in rows
        )


def summary(network: nn.Module, height: int = 128, width: int = 128) -> Summary:
    """Parameters, multiply-adds and output size of each layer with weights, for one image.

    Args:
        network: anything that takes ``(N, C, H, W)``; it is run once, on zeros, and left as it was.
        height, width: the image's size in pixels.

    Example:
        >>> from cascade_core.models import DeblurDenoiseNet
        >>> summary(DeblurDenoiseNet(), 128, 128).parameters
        504099
    """
    layers: list[Layer] = []

    def record(name: str, module: nn.Module):
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            # a transposed convolution spreads each input value through its kernel; the others gather
            places = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
            work = module.weight.numel() * places[0, 0].numel() if module.weight.dim() == 4 else module.weight.numel()
            if isinstance(module, nn.BatchNorm2d):
                work = output[0].numel()  # a scale and a shift
            count = sum(p.numel() for p in module.parameters())
            layers.append(Layer(name, type(module).__name__, tuple(output.shape[1:]), count, work))

        return hook

    kinds = nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.BatchNorm2d
    handles = [m.register_forward_hook(record(n, m)) for n, m in network.named_modules() if isinstance(m, kinds)]
    training, parameter = network.training, next(network.parameters())
    channels = next(m.in_channels for m in network.modules() if isinstance(m, nn.Conv2d))
    try:
        with torch.no_grad():  # eval: a look must not move batch norm's statistics
            network.eval()(torch.zeros(1, channels, height, width, device=parameter.device, dtype=parameter.dtype))
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    return Summary(layers, sum(x.parameters for x in layers), sum(x.multiply_adds for x in layers))
