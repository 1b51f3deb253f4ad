"""Layer by layer: what a network is made of, how its layers are joined, and the work that they take.

Work is counted in multiply-accumulates (MACs) of convolutions and fully connected layers, for one image. Batch norm
counts nothing: in use it is a part of the convolution before it.
"""

import copy
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import NamedTuple

import pandas as pd
import torch
import torchinfo
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakTensorKeyDictionary

from cascade_core.models import ResidualBlock

KINDS: dict[type[nn.Module], str] = {
    nn.Conv2d: "conv",
    nn.ConvTranspose2d: "transposed conv",
    nn.Linear: "fully connected",
    ResidualBlock: "residual block",
}
SIGNS = {"add": "+", "sub": "−"}


def table(network: nn.Module, *shape: int) -> pd.DataFrame:
    """Kind, output size, parameters and MACs of each layer with weights, in the order in which they run.

    Args:
        network: it is run once, on zeros, and left as it was.
        shape: of one input without the batch, such as ``3, 128, 128``.

    Returns:
        A row for each layer, under its name in the network, and a last one, ``total``.

    Example:
        >>> from cascade_core.models import DeblurDenoiseNet
        >>> int(table(DeblurDenoiseNet(), 3, 128, 128).loc["total", "parameters"])
        504099
    """
    weight = next(network.parameters())
    inputs = torch.zeros(1, *shape, device=weight.device, dtype=weight.dtype)
    with FlopCounterMode(display=False) as counter:  # torchinfo's own count misses the stride of transposed ones
        seen = torchinfo.summary(network, input_data=inputs, mode="eval", verbose=0)
    work, names = counter.get_flop_counts(), {id(module): name for name, module in network.named_modules()}
    rows = {}
    for layer in seen.summary_list:
        if layer.is_leaf_layer and layer.num_params:
            name = names[layer.layer_id]
            flops = sum(work.get(".".join(filter(None, (type(network).__name__, name))), {}).values())
            output = " × ".join(map(str, layer.output_size[1:]))
            rows[name] = layer.class_name, output, layer.num_params, flops // 2  # a multiplication and an addition
    total = "", "", parameters(network), sum(work["Global"].values()) // 2
    columns = ["kind", "output", "parameters", "MACs"]
    return pd.DataFrame.from_dict(rows | {"total": total}, "index", columns=columns).rename_axis("layer")


def macs(network: nn.Module, *shape: int) -> int:
    """Multiply-accumulates that a network takes for one input of a shape, such as ``3, 128, 128``.

    Example:
        >>> macs(nn.ConvTranspose2d(3, 8, 4, stride=2, padding=1), 3, 10, 10)  # 100 places, each through 4 x 4
        38400
    """
    return int(table(network, *shape)["MACs"].iloc[-1])


def parameters(network: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(parameter.numel() for parameter in network.parameters())


class Step(NamedTuple):
    """A layer with weights (or some alike in a row, or a residual block), and the maps after it: a bar of a drawing."""

    kind: str
    shape: tuple[int, ...]
    times: int = 1

    @property
    def name(self) -> str:
        return f"{self.times} × {self.kind}" if self.times > 1 else self.kind

    @property
    def size(self) -> str:
        return " × ".join(map(str, self.shape))

    @property
    def side(self) -> int:
        return self.shape[1] if len(self.shape) == 3 else 1


class Skip(NamedTuple):
    """The maps of step ``start`` reach step ``end`` directly; what the layers made of them is added or subtracted."""

    start: int
    end: int
    sign: str


class _Origins(TorchFunctionMode):
    """While it is active, it knows for each tensor the step that it comes from, and notes where what comes from two
    steps is added or subtracted."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.step_of, self.skips = WeakTensorKeyDictionary({images: 0}), list[Skip]()

    def __torch_function__(self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        result = func(*args, **(kwargs or {}))
        sources = {self.step_of[x] for x in args if isinstance(x, Tensor) and x in self.step_of}
        if sources and isinstance(result, Tensor):
            self.step_of[result] = max(sources)
            if len(sources) == 2 and func.__name__ in SIGNS:
                self.skips.append(Skip(min(sources), max(sources), SIGNS[func.__name__]))
        return result


def trace(network: nn.Module, size: int) -> tuple[list[Step], list[Skip]]:
    """A network's steps and skips, as they are seen while it runs; steps alike in a row, with no skip, become one.

    Example:
        >>> from cascade_core.models import DeblurDenoiseNet
        >>> steps, skips = trace(DeblurDenoiseNet(8), 32)
        >>> steps[-1], skips[-1]
        (Step(kind='conv 3, stride 1', shape=(3, 32, 32), times=1), Skip(start=0, end=8, sign='−'))
    """
    network, images = copy.deepcopy(network).cpu().eval(), torch.zeros(1, 3, size, size)
    origins, steps = _Origins(images), [Step("input", (3, size, size))]

    def ran(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        origins.step_of[output] = len(steps)
        steps.append(Step(kind_of(layer), tuple(output.shape[1:])))

    for layer in layers_of(network):
        layer.register_forward_hook(ran)
    with torch.no_grad(), origins:
        network(images)
    ends = {i for start, end, _ in origins.skips for i in (start, end)}
    runs = groupby(range(len(steps)), lambda i: (steps[i], i if i in ends else None))
    alike = [list(run) for _, run in runs]
    place = {i: n for n, run in enumerate(alike) for i in run}
    merged = [steps[run[0]]._replace(times=len(run)) for run in alike]
    return merged, [Skip(place[start], place[end], sign) for start, end, sign in origins.skips]


def layers_of(module: nn.Module) -> Iterator[nn.Module]:
    """The layers that are steps, in the order in which they run; a residual block is one of them, its parts are not."""
    for child in module.children():
        if kind_of(child):
            yield child
        else:
            yield from layers_of(child)


def kind_of(layer: nn.Module) -> str:
    """What a step is called; nothing for what is none."""
    name = next((name for kind, name in KINDS.items() if isinstance(layer, kind)), "")
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        return f"{name} {layer.kernel_size[0]}, stride {layer.stride[0]}"
    return name
