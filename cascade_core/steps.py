"""One step of each of the four training stages (section 3.4), and what they share. The chapters show these functions.

A step takes the training under way, batches of photos ``(N, 3, H, W)`` in [0, 1], and the random numbers of this step;
it updates the networks and returns its losses by name.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torchvision.transforms.functional import center_crop

from cascade_core.degradations import apply_mask, center_hole, degrade
from cascade_core.fills import Solver, generator_input, laplace
from cascade_core.losses import Losses, critic_loss, mse_loss


class Settings(Protocol):
    """What the steps ask of a profile's settings; `cascade_lab.training.profiles` says where each value is from."""

    hole: int  # side of the hole in px
    hole_color: tuple[float, float, float]
    generator_fill: str  # one of `conventions.FILLS`
    critic_steps: int  # for each step of the generator
    critic_clip: float
    stage3_mix: Mapping[str, float]  # shares of the levels of blur and noise
    stage4_mix: Mapping[str, float]

    @property
    def critic_side(self) -> int: ...  # of the square in the center that the critic sees, px; the paper's is the image


@dataclass
class Training:
    """A stage under way, as its step sees it."""

    settings: Settings
    networks: dict[str, nn.Module]  # what is trained and saved, by name
    modules: dict[str, nn.Module]  # what a step calls: the networks, what is made of them (the cascade), the loss
    optimizers: dict[str, torch.optim.Optimizer]  # one for each module that is updated, by its name
    laplace: Solver = laplace  # of the holes, where the generator finds the Laplace fill

    def update(self, name: str, loss: Tensor) -> None:
        """One step of a module's optimizer down the loss's gradient."""
        self.optimizers[name].zero_grad()
        self.backward(loss)
        self.optimizers[name].step()

    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def masks(self, photo: Tensor, rng: torch.Generator) -> Tensor | None:
        """The holes of a batch; ``None`` for the paper's in the center. A variant overrides it."""
        return None

    def autocast(self) -> AbstractContextManager[None]:
        """For what a step calls outside the modules; a training in mixed precision overrides it."""
        return nullcontext()


Step = Callable[[Training, Iterator[Tensor], torch.Generator], Losses]


def step_1(t: Training, photos: Iterator[Tensor], rng: torch.Generator) -> Losses:
    """Stage 1: the generator fills the hole, by mean squared error (equation 1)."""
    photo = next(photos)
    damaged = with_hole(photo, t.settings, t.masks(photo, rng), t.laplace)
    loss = mse_loss(t.modules["generator"](damaged), photo)
    t.update("generator", loss)
    return {"mse": loss}


def step_2(t: Training, photos: Iterator[Tensor], rng: torch.Generator) -> Losses:
    """Stage 2: the critic learns to tell fills from photos, the generator to please it."""
    generator, critic = t.modules["generator"], t.modules["critic"]
    square = [t.settings.critic_side, t.settings.critic_side]
    for _ in range(t.settings.critic_steps):
        photo = next(photos)
        with torch.no_grad():
            filled = generator(with_hole(photo, t.settings, t.masks(photo, rng), t.laplace))
        real_scores = critic(center_crop(photo, square))
        loss = critic_loss(real_scores, critic(center_crop(filled, square)))
        t.update("critic", loss)
        clip_weights(critic, t.settings.critic_clip)
    gradients = [p.grad for p in critic.parameters() if p.grad is not None]
    gradient = nn.utils.get_total_norm(gradients)

    photo = next(photos)
    with frozen(t.networks["critic"]) as fixed_critic:
        filled = generator(with_hole(photo, t.settings, t.masks(photo, rng), t.laplace))
        with t.autocast():
            scores = fixed_critic(center_crop(filled, square))
            total, parts = t.modules["loss"](filled, photo, scores)
        t.update("generator", total)
    return {**parts, "distance": -loss, "critic_gradient": gradient}


def step_3(t: Training, photos: Iterator[Tensor], rng: torch.Generator) -> Losses:
    """Stage 3: the deblurring-denoising network alone, on photos without a hole."""
    photo = next(photos)
    degraded = degrade(photo, None, t.settings.stage3_mix, rng)
    loss = mse_loss(t.modules["deblur_denoise"](degraded.images), photo)
    t.update("deblur_denoise", loss)
    return {"mse": loss}


def step_4(t: Training, photos: Iterator[Tensor], rng: torch.Generator) -> Losses:
    """Stage 4: both networks as one, nothing frozen, by the error of the last image."""
    photo = next(photos)
    degraded = with_all_faults(photo, t.settings, rng, t.masks(photo, rng), t.laplace)
    loss = mse_loss(t.modules["cascade"](degraded).restored, photo)
    t.update("cascade", loss)
    return {"mse": loss}


def with_hole(photo: Tensor, settings: Settings, masks: Tensor | None = None, solve: Solver | None = None) -> Tensor:
    """The photos with a hole and nothing else: the generator's input in stages 1 and 2.

    Args:
        photo: ``(N, 3, H, W)``.
        masks: ``(N, 1, H, W)``; ``None`` for the settings' hole in the center.
    """
    n, _, height, width = photo.shape
    masks = center_hole(n, height, width, settings.hole, photo.device) if masks is None else masks
    masked = apply_mask(photo, masks, settings.hole_color)
    return generator_input(masked, masks, settings.generator_fill, solve)


def with_all_faults(
    photo: Tensor,
    settings: Settings,
    generator: torch.Generator,
    masks: Tensor | None = None,
    solve: Solver | None = None,
) -> Tensor:
    """Blur and noise of the settings' mix, then a hole as in `with_hole`: stage 4's input."""
    degraded = degrade(photo, None, settings.stage4_mix, generator)
    return with_hole(degraded.images, settings, masks, solve)


@contextmanager
def frozen(network: nn.Module) -> Iterator[nn.Module]:
    """The network without gradients of its own: they flow through it to what made its input."""
    network.requires_grad_(False)
    try:
        yield network
    finally:
        network.requires_grad_(True)


def clip_weights(network: nn.Module, limit: float) -> None:
    """Keep every parameter in [-limit, limit]; batch norm's scales too, or scores explode."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.clamp_(-limit, limit)
