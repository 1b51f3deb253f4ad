"""PatchMatch: the hole as a collage of patches from the same photo."""

import numpy as np
from torch import Tensor

from cascade_lab.baselines.interface import fill_each, optional, to_bytes


def patchmatch(images: Tensor, masks: Tensor, patch_size: int = 3, seed: int = 0) -> Tensor:
    """Fill each hole by PatchMatch, in the implementation of the PyPatchMatch package.

    It works on 8-bit values, so the hole has 256 levels; the known pixels do not pass through it. The paper uses the
    program of PatchMatch's own authors, so its rows need not agree with this one. The seed alone moves the mean over
    100 photos by 0.1 dB.

    Args:
        images: (N, 3, H, W) in [0, 1].
        masks: (N, 1, H, W), 1 where pixels are missing.
        patch_size: RADIUS of the patches: 3 means 7 x 7 pixels (the package calls it so).
        seed: of the random search; equal inputs give equal outputs.

    Returns:
        (N, 3, H, W); known pixels as they were.

    Raises:
        ImportError: if PyPatchMatch is not installed, or without its compiled library.

    Source: Barnes et al., PatchMatch: a randomized correspondence algorithm for structural image editing (2009).
    """
    package = optional("patchmatch")
    if not package.patchmatch_available:
        raise ImportError(
            "PyPatchMatch is installed without its compiled library, which its wheels carry: "
            "pip install --force-reinstall --no-cache-dir --only-binary :all: PyPatchMatch"
        )
    package.set_random_seed(seed)

    def fill(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
        return package.inpaint(to_bytes(image), hole, patch_size=patch_size) / 255

    return fill_each(images, masks, fill)
