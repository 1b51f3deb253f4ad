"""The deep cascade of Zhao et al. (2017): its networks, losses, degradations, training steps and metrics.

What trains, measures and uses them is `cascade_lab`.
"""

from cascade_core.conventions import from_pixels, to_pixels
from cascade_core.degradations import LEVELS, add_noise, apply_mask, blur, center_hole, degrade
from cascade_core.fills import generator_input, laplace
from cascade_core.losses import GeneratorLoss, PerceptualLoss, adversarial_loss, critic_loss, mse_loss
from cascade_core.metrics import composite, measure, psnr, ssim
from cascade_core.models import Cascade, Critic, DeblurDenoiseNet, InpaintingGenerator, Restoration
from cascade_core.steps import step_1, step_2, step_3, step_4

__all__ = [
    "LEVELS",
    "Cascade",
    "Critic",
    "DeblurDenoiseNet",
    "GeneratorLoss",
    "InpaintingGenerator",
    "PerceptualLoss",
    "Restoration",
    "add_noise",
    "adversarial_loss",
    "apply_mask",
    "blur",
    "center_hole",
    "composite",
    "critic_loss",
    "degrade",
    "from_pixels",
    "generator_input",
    "laplace",
    "measure",
    "mse_loss",
    "psnr",
    "ssim",
    "step_1",
    "step_2",
    "step_3",
    "step_4",
    "to_pixels",
]
