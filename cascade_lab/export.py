"""The trained networks as ONNX files, which runtimes in any language read.

A file has one input, ``images``, ``(batch, C, height, width)`` in [0, 1], any height and width; C is 4 where the
generator is given the mask. Its outputs are ``inpainted``, ``restored`` or both, ``(batch, 3, height, width)`` and not
clipped. Batch norm is a part of the convolution before it. What has to be known to use it is in its metadata: `about`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from cascade_core.models import Cascade
from cascade_lab.restoration import REACH
from cascade_lab.training import checkpoints, stages

OPSET = 18
LICENCE = "BSD-3-Clause"  # as in pyproject.toml, which an installed package does not carry
OUTPUTS = {"generator": ("inpainted",), "deblur_denoise": ("restored",), "cascade": ("inpainted", "restored")}
STORES = ("float32", "float16", "int8")


def export(weights: Path, network: str = "cascade", store: str = "float32") -> onnx.ModelProto:
    """One network of a weights file as a checked ONNX model.

    Args:
        weights: published, or of a run.
        network: ``"generator"``, ``"deblur_denoise"``, or ``"cascade"``, which is the one after the other.
        store: how the large weights are kept; all are computed with in 32 bits. ``"int8"`` has one scale for each
            output channel.

    Raises:
        ValueError: there is no such network or store, or the file cannot be read.

    Example:
        >>> from cascade_lab import published
        >>> model = export(published.weights("cascade"), "deblur_denoise", "int8")
        >>> [value.name for value in (*model.graph.input, *model.graph.output)]
        ['images', 'restored']
    """
    for name, names in ((network, OUTPUTS), (store, STORES)):
        if name not in names:
            raise ValueError(f"there is no {name!r} to choose; there are {', '.join(names)}")
    networks, facts = stages.load(weights), about(weights)
    needed = ["generator", "deblur_denoise"] if network == "cascade" else [network]
    if lacking := [name for name in needed if name not in networks]:
        raise ValueError(f"{weights} holds {', '.join(networks)}, but no {lacking[0]}: use weights of stage 4")
    module = Cascade(*(networks[name] for name in needed)) if network == "cascade" else networks[network]
    channels = 4 if facts["fill"] == "laplace and mask" and network != "deblur_denoise" else 3
    model = traced(module.eval(), channels, OUTPUTS[network])
    helper.set_model_props(model, {"network": network} | {k: json.dumps(v) for k, v in facts.items()})
    return stored(model, store)


def about(weights: Path) -> dict[str, Any]:
    """What has to be known to use the networks of a weights file; each value is JSON in an ONNX file's metadata.

    ``size`` of the generator's images and side of the ``hole`` in the middle, in px; ``hole_color`` in [0, 1];
    ``fill``, what the generator finds in the hole; ``reach``, how far in px the second network sees; the
    ``settings``; ``training``, the SHA-256 by which the training is known; the ``licence``.
    """
    header = checkpoints.read_about(weights)
    record = checkpoints.training_of(weights) or {}
    return {
        **{name: header["settings"][name] for name in ("size", "hole", "hole_color")},
        "fill": header["settings"].get("generator_fill", "color"),
        "reach": REACH,
        "settings": header["settings"],
        "training": record.get("weights_sha256", ""),
        "licence": LICENCE,
    }


@torch.no_grad()
def traced(module: nn.Module, channels: int, outputs: tuple[str, ...]) -> onnx.ModelProto:
    """A network as torch exports it, its sizes left open and named."""
    names = {0: "batch", 2: "height", 3: "width"}
    program = torch.onnx.export(
        module,
        (torch.rand(1, channels, 96, 64),),
        input_names=["images"],
        output_names=list(outputs),
        opset_version=OPSET,
        dynamic_shapes=({dimension: torch.export.Dim(name) for dimension, name in names.items()},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    assert program is not None  # as only the older exporter could be
    model = program.model_proto
    for value in model.graph.output:  # the padding inside makes a long formula of a size that is the input's
        for dimension, name in names.items():
            value.type.tensor_type.shape.dim[dimension].dim_param = name
    del model.graph.value_info[:]
    return model


def stored(model: onnx.ModelProto, store: str) -> onnx.ModelProto:
    """A checked copy of a float32 model whose large weights are kept in fewer bits, and which says so."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    squeeze(copy, store)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    helper.set_model_props(copy, facts | {"store": store})
    onnx.checker.check_model(copy, full_check=True)
    return copy


def difference(full: Sequence[onnx.ModelProto], small: Sequence[onnx.ModelProto], images: np.ndarray) -> float:
    """The mean difference of two rows of networks, such as full and stored in 8 bits, in gray levels (0-255 scale).

    Args:
        full: networks of which each is given what the one before it has made.
        small: the same networks, kept otherwise.
        images: ``(N, C, H, W)``, what the first network is given, in [0, 1].
    """
    made = [images, images]
    for pair in zip(full, small, strict=True):
        sessions = [onnxruntime.InferenceSession(model.SerializeToString()) for model in pair]
        made = [session.run(None, {"images": given})[0] for session, given in zip(sessions, made, strict=True)]
    return float(255 * np.abs(made[0] - made[1]).mean())


def squeeze(model: onnx.ModelProto, store: str) -> None:
    """Keep the large weights in fewer bits; nodes that any reader knows bring them back when the file is opened."""
    graph = model.graph
    transposed = {node.input[1] for node in graph.node if node.op_type == "ConvTranspose"}
    nodes = []
    for tensor in [t for t in graph.initializer if len(t.dims) > 1 and store != "float32"]:
        name, values = tensor.name, numpy_helper.to_array(tensor)
        small = values.astype(np.float16)
        if store == "int8":
            others = tuple(axis for axis in range(values.ndim) if axis != (name in transposed))
            scale = np.maximum(abs(values).max(others, keepdims=True) / 127, 1e-12).astype(np.float32)
            small = np.rint(values / scale).astype(np.int8)
            graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
            nodes.append(helper.make_node("Mul", [f"{name}.float", f"{name}.scale"], [name]))
        tensor.CopyFrom(numpy_helper.from_array(small, f"{name}.small"))
        to = name if store == "float16" else f"{name}.float"
        nodes.insert(0, helper.make_node("Cast", [f"{name}.small"], [to], to=TensorProto.FLOAT))
    for node in nodes[::-1]:
        graph.node.insert(0, node)


def check_output(out: Path, force: bool = False) -> None:
    """Raise ``ValueError`` where a model cannot be written, before any work is done."""
    checkpoints.refuse_output(out, ".onnx", force)
    if not out.resolve().parent.is_dir():
        raise ValueError(f"{out}: there is no folder {out.parent}")


def write(model: onnx.ModelProto, out: Path) -> None:
    """Write a model whole or not at all."""
    checkpoints.write_atomically(out.resolve(), lambda file: file.write_bytes(model.SerializeToString()))
