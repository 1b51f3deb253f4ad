"""One step of each of the four training stages (section 3.4), and what they share. The chapters show these functions.

A step takes the training under way (its networks and optimizers), batches of photos ``(N, 3, H, W)`` in [0, 1], and the
random numbers of this step; it updates the networks and returns its losses by name.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .degradations import center_hole, degrade, punch, rectangle_masks
from .inputs import started
from .losses import critic_loss, mse_loss
from .profiles import Profile
from .training import Training, frozen


def step_1(t: Training, photos: Iterator[Tensor], rng: torch.Generator) -> dict[str, Tensor]:
    """Stage 1: the generator fills the hole, mean squared error (equation 1)."""
    photo = next(photos)
    loss = mse_loss(t.modules["generator"](with_hole(photo, t.profile, rng)), photo)
    t.update("generator", loss)
    return {"mse": loss}


def step_2(t: Training, photos: Iterator[Tensor], rng: torch.Generator) -> dict[str, Tensor]:
    """Stage 2: the critic learns to tell filled photos from real ones, the generator to please it (equations 5, 7)."""
    generator, critic = t.modules["generator"], t.modules["critic"]
    for _ in range(t.profile.critic_steps):
        photo = next(photos)
        with torch.no_grad():
            filled = generator(with_hole(photo, t.profile, rng))
        loss = critic_loss(critic(photo), critic(filled))
        t.update("critic", loss)
        clip_weights(critic, t.profile.critic_clip)
    gradient = torch.nn.utils.get_total_norm(p.grad for p in critic.parameters())

    photo = next(photos)
    with frozen(t.networks["critic"]) as judge:
        filled = generator(with_hole(photo, t.profile, rng))
        with t.fabric.autocast():
            total, parts = t.modules["loss"](filled, photo, judge(filled))
        t.update("generator", total)
    return {**parts, "distance": -loss, "critic_gradient": gradient}


def step_3(t: Training, photos: Iterator[Tensor], rng: torch.Generator) -> dict[str, Tensor]:
    """Stage 3: the deblurring-denoising network alone, on blurred, noisy photos without a hole."""
    photo = next(photos)
    damaged = degrade(photo, None, t.profile.stage3_mix, rng)
    loss = mse_loss(t.modules["refiner"](damaged.images), photo)
    t.update("refiner", loss)
    return {"mse": loss}


def step_4(t: Training, photos: Iterator[Tensor], rng: torch.Generator) -> dict[str, Tensor]:
    """Stage 4: both networks as one, from the output's error back to the generator's input, nothing frozen."""
    photo = next(photos)
    loss = mse_loss(t.modules["cascade"](damaged(photo, t.profile, rng)).restored, photo)
    t.update("cascade", loss)
    return {"mse": loss}


def with_hole(photo: Tensor, profile: Profile, rng: torch.Generator | None = None) -> Tensor:
    """The photos with the profile's hole, and nothing else: what stages 1 and 2 see."""
    masks = hole_in(photo, profile, rng)
    return started(punch(photo, masks, profile.fill), masks, profile.generator_start)


def damaged(photo: Tensor, profile: Profile, rng: torch.Generator) -> Tensor:
    """The photos with blur and noise of the profile's mix, then the hole: what stage 4 sees."""
    masks = hole_in(photo, profile, rng)
    return started(degrade(photo, masks, profile.stage4_mix, rng, profile.fill).images, masks, profile.generator_start)


def hole_in(photo: Tensor, profile: Profile, rng: torch.Generator | None = None) -> Tensor:
    """The profile's hole in the center of each photo, as masks on the photos' device.

    With ``hole_place`` "anywhere" and random numbers, every other batch, by chance, gets a rectangle elsewhere instead:
    one for the whole batch, a quarter to a half of the photo wide and high, so its Laplace fill is factorized once.
    """
    if rng is not None and profile.hole_place == "anywhere" and torch.rand((), generator=rng, device=rng.device) < 0.5:
        masks = rectangle_masks(1, *photo.shape[-2:], rng, device=photo.device)
        return masks.expand(len(photo), -1, -1, -1)
    return center_hole(*photo[:, 0].shape, profile.hole, photo.device)


def clip_weights(network: nn.Module, limit: float) -> None:
    """Keep every parameter in [-limit, limit], batch norm's scales too: left out, they let the scores explode."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.clamp_(-limit, limit)


def freeze_batch_norm(network: nn.Module) -> None:
    """Batch norm uses its running statistics, in training too."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def reestimate_batch_norm(network: nn.Module, inputs: Iterator[Tensor]) -> None:
    """Measure the running statistics of batch norm anew: the plain mean over the batches given."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [m.momentum for m in norms]
    for module in norms:
        module.reset_running_stats()
        module.momentum = None  # a cumulative mean instead of a moving one
    training_mode = network.training
    network.train()
    with torch.no_grad():
        for batch in inputs:
            network(batch)
    network.train(training_mode)
    for module, momentum in zip(norms, momenta, strict=True):
        module.momentum = momentum
