"""Layer by layer: what a network is made of, and the work that it takes.

Work is counted in multiply-accumulates (MACs) of convolutions and fully connected layers, for one image. Batch norm
counts nothing: in use it is a part of the convolution before it.
"""

import pandas as pd
import torch
import torchinfo
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


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
    # a multiplication and an addition are two operations; the counter's names begin with the network's class
    work = {name: sum(flops.values()) // 2 for name, flops in counter.get_flop_counts().items()}
    names = {id(module): name for name, module in network.named_modules(prefix=type(network).__name__)}
    rows = {}
    for layer in seen.summary_list:
        if layer.is_leaf_layer and layer.num_params:
            name, output = names[layer.layer_id], " × ".join(map(str, layer.output_size[1:]))
            rows[name.partition(".")[2]] = layer.class_name, output, layer.num_params, work.get(name, 0)
    rows["total"] = "", "", parameters(network), work["Global"]
    columns = ["kind", "output", "parameters", "MACs"]
    return pd.DataFrame.from_dict(rows, "index", columns=columns).rename_axis("layer")


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
