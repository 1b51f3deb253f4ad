"""The methods that are measured, by name: baselines, networks from weights files, and classical chains."""

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from cascade_core import metrics
from cascade_core.degradations import KERNEL_SIZE, Degraded, gaussian_kernels
from cascade_core.fills import generator_input
from cascade_core.models import Cascade
from cascade_lab import published
from cascade_lab.baselines import DEBLURRERS, DENOISERS, INPAINTERS, KNearest, chain, estimate_sigma, laplace, tune
from cascade_lab.baselines.context_encoder import context_encoder
from cascade_lab.baselines.neural_patch_synthesis import NeuralPatchSynthesis
from cascade_lab.evaluation.protocol import Protocol, degraded_images
from cascade_lab.training import checkpoints, stages
from cascade_lab.variants import SelfEnsemble

Method = Callable[[Degraded], Tensor]
"""From degraded images ``(N, 3, H, W)`` and what degraded them to restored ones of the same shape."""

NEIGHBORS = 16  # of k-NN: their mean is 1 dB better than the nearest alone; the paper does not give its k
TUNING_CROPS = 16  # of the training photos, that a classical chain is tuned on
GRIDS: dict[str, dict[str, Sequence[float]]] = {
    "non-local means": {"strength": (0.3, 0.5, 0.7)},
    "total variation": {"strength": (0.5, 0.7, 0.9, 1.2)},
    "wavelets": {"strength": (0.75, 1.0, 1.5)},
    "wiener": {"strength": (3, 10, 30, 100)},
    "richardson-lucy": {"steps": (2, 4, 8, 16)},
}
"""What is tried of each restorer's parameters; wide enough that at no level the best one lies at an end."""
GUESSES = (0.5, 0.8, 1.2, 1.6, 2.0, 2.6, 3.2)
"""Standard deviations in px of the Gaussian that the blind chain may take for every blur."""


def from_inpainter(fill: Callable[[Tensor, Tensor], Tensor]) -> Method:
    """A baseline as a method."""
    return lambda degraded: fill(degraded.images, degraded.masks)


def from_network(module: Any, output: str | None = None) -> Method:
    """A network in eval mode as a method; ``output`` names the cascade's result to take."""
    parameter = next(module.parameters())

    def restore(degraded: Degraded) -> Tensor:
        images = degraded.images
        if hasattr(module, "fill"):
            images = generator_input(images, degraded.masks, module.fill)
        with torch.no_grad():
            result = module(images.to(parameter.device))
        return (getattr(result, output) if output else result).to(degraded.images.device)

    return restore


def from_cascade(cascade: Cascade) -> dict[str, Method]:
    """``inpainted``, the image between the networks of a cascade in eval mode, and ``cascade``, the final one.

    Their names end in "+" where the cascade does not start from the paper's constant color.
    """
    plus = "" if cascade.fill == "color" else "+"
    return {f"inpainted{plus}": from_network(cascade, "inpainted"), f"cascade{plus}": from_network(cascade, "restored")}


def from_weights(
    *paths: str | Path, device: torch.device | str = "cpu", vgg: str | None = None, ensemble: bool = False
) -> dict[str, Method]:
    """The methods that weights files hold.

    The file of stage 4 holds ``cascade``, and with it ``inpainted``, its image between the two networks. Other files
    hold ``generator`` (``generator, MSE`` if stage 1's; with "+" as in `from_cascade`), ``deblur_denoise`` or
    ``context encoder``; the first and the second together also make ``separate``, one after the other. With weights
    for a VGG-16 (``"imagenet"``, ``"random"`` or a path) the Context Encoder also brings ``neural patch synthesis``.
    With ``ensemble`` the others are `SelfEnsemble`, and their names end in ", x8".

    Raises:
        ValueError: a file that is not a weights file, and two files with the same network.
    """
    methods, alone = dict[str, Method](), dict[str, Any]()
    wrapped: Callable[[Any], Any] = SelfEnsemble if ensemble else lambda network: network
    for path in paths:
        networks = {name: n.to(device) for name, n in stages.load(path).items() if name not in published.CRITICS}
        if set(networks) == {"generator", "deblur_denoise"}:
            found = from_cascade(wrapped(Cascade(**networks).eval()))
        elif "context_encoder" in networks:
            content = context_encoder(networks["context_encoder"])
            found = {"context encoder": from_inpainter(content)}
            if vgg:
                found["neural patch synthesis"] = from_inpainter(NeuralPatchSynthesis(content, vgg))
        else:
            stage = checkpoints.read_about(Path(path)).get("stage")
            named = {_name_alone(name, network, stage): network for name, network in networks.items()}
            found = {name: from_network(wrapped(network)) for name, network in named.items()}
            alone |= named
        if twice := sorted(set(found) & set(methods)):
            raise ValueError(f"{path} holds the {twice[0]}, as does another of the weights files: give one of them")
        methods |= found
    if {"generator", "deblur_denoise"} <= set(alone):
        joined = Cascade(alone["generator"], alone["deblur_denoise"]).eval()
        methods["separate"] = from_network(wrapped(joined), "restored")
    still = ("context encoder", "neural patch synthesis")
    return {name if name in still or not ensemble else f"{name}, x8": method for name, method in methods.items()}


def _name_alone(name: str, network: Any, stage: int | str | None) -> str:
    """What a network is called that stands in a file by itself."""
    if name != "generator":
        return name
    plus = "" if network.fill == "color" else "+"
    return f"generator{plus}, MSE" if stage == 1 else f"generator{plus}"


def without_training() -> tuple[dict[str, Method], dict[str, str]]:
    """The methods that need nothing but the image: those that run here, and why each of the others does not.

    ``input`` is the degraded image itself. Each of the others is tried on a small image, so a package that is
    installed without its library is found out, too.
    """
    degraded = degraded_images(torch.full((1, 3, 32, 32), 0.5), Protocol(32, 8))
    usable: dict[str, Method] = {"input": lambda degraded: degraded.images}
    missing = {}
    for name, fill in INPAINTERS.items():
        try:
            fill(degraded.images, degraded.masks)
            usable[name] = from_inpainter(fill)
        except ImportError as error:
            missing[name] = str(error)
    return usable, missing


def k_nearest(crops: Tensor) -> Method:
    """The mean of the nearest training crops ``(M, 3, size, size)``; of all of them if they are few."""
    return from_inpainter(KNearest(crops, k=min(NEIGHBORS, len(crops))))


def tuned_chain(
    crops: Tensor,
    protocol: Protocol,
    blind: bool = False,
) -> tuple[Method, list[str]]:
    """The best classical chain for a level: Laplace fill, denoiser, deblurring.

    Chosen and tuned by PSNR on training crops, degraded by another seed than the
    test's: first each denoiser on the filled crops, then each deblurring method on
    what the best of them returns. What does not help or lacks its package is left out.

    Args:
        crops: training crops, ``(M, 3, size, size)`` in [0, 1].
        protocol: the level and the hole of the test.
        blind: like the networks, without each image's true noise level and kernel:
            the noise is estimated from the image, and one of `GUESSES`, the best on
            the training crops, stands for every kernel.

    Returns:
        The method, and its steps in words.

    Raises:
        ImportError: the chain is blind, and PyWavelets is missing (for the noise).
    """
    other = dataclasses.replace(protocol, seed=protocol.seed + 1)
    degraded = degraded_images(crops, other)
    sigma = estimate_sigma(degraded.images, degraded.masks) if blind else degraded.sigma
    images, kernel = laplace(degraded.images, degraded.masks), None
    steps, restorers = ["laplace"], list[Callable[..., Tensor]]()
    kernels = _guesses() if blind else {"": degraded.kernels}
    for kind, blurs in ((DENOISERS, {"": None}), (DEBLURRERS, kernels)):
        nothing = metrics.psnr(images, crops).mean().item()
        trials = [(nothing, "", dict[str, Any](), "")]
        for (name, restore), blur in product(kind.items(), blurs):
            given = {"images": images, "kernels": blurs[blur], "sigma": sigma}
            with suppress(ImportError):
                tried = tune(restore, given, crops, GRIDS[name])[1]
                trials += [(psnr, name, found, blur) for found, psnr in tried]
        _, name, found, blur = max(trials, key=lambda trial: trial[0])
        if name:
            restorers.append(partial(kind[name], **found))
            kernel = blurs[blur]
            images = restorers[-1](images, kernel, sigma)
            settings = ", ".join(f"{key} {value:g}" for key, value in found.items())
            steps.append(f"{name} ({settings}{blur})")
    restore = chain(laplace, *restorers)
    if blind:
        return lambda d: restore(d.images, d.masks, kernel), steps
    return lambda d: restore(d.images, d.masks, d.kernels, d.sigma), steps


def _guesses() -> dict[str, Tensor]:
    kernels = gaussian_kernels(torch.tensor(GUESSES)[:, None].expand(-1, 2), torch.zeros(len(GUESSES)), KERNEL_SIZE)
    return {f", for a Gaussian of {width:g} px": kernels[i : i + 1] for i, width in enumerate(GUESSES)}


def restore_all(method: Method, degraded: Degraded, title: str = "", batch: int = 50) -> Tensor:
    """What a method makes of degraded images, ``(N, 3, H, W)``, ``batch`` at a time; a terminal shows how far it is."""
    outputs = []
    with tqdm(total=len(degraded.images), desc=title, disable=None, leave=False) as bar:
        for part in zip(*(values.split(batch) for values in degraded), strict=True):
            outputs.append(method(Degraded(*part)))
            bar.update(len(part[0]))
    return torch.cat(outputs)
