"""PatchMatch: the hole as a collage of patches from the same photo."""

from functools import partial

from torch import Tensor

from cascade_lab.baselines.interface import fill_each, optional

RADIUS = 3  # px: the patches are 7 x 7 pixels; the package calls it patch_size


def patchmatch(images: Tensor, masks: Tensor, seed: int = 0) -> Tensor:
    """An `Inpainter`: PatchMatch, in the implementation of the PyPatchMatch package.

    It works on bytes, so the hole has 256 levels. The paper uses the program of PatchMatch's own authors, so its rows
    need not agree with this one.

    Args:
        images, masks: as for every `Inpainter`.
        seed: of the random search; equal seeds give equal outputs. The mean PSNR over 100 photos moves by 0.1 dB.

    Raises:
        ImportError: PyPatchMatch is not installed, or without its compiled library.

    Source: Barnes et al., PatchMatch: a randomized correspondence algorithm for structural image editing (2009).
    """
    package = optional("patchmatch")
    if not package.patchmatch_available:
        raise ImportError(
            "PyPatchMatch is installed without its compiled library, which its wheels carry: "
            "pip install --force-reinstall --no-cache-dir --only-binary :all: PyPatchMatch"
        )
    package.set_random_seed(seed)
    return fill_each(images, masks, partial(package.inpaint, patch_size=RADIUS), as_bytes=True)
