"""What the cascade is compared with: one interface, image and mask in, image out.

- An inpainter is ``fill(images, masks) -> images``. It never reads what lies under the mask, and returns the known
  pixels bit for bit.
- A restorer is ``restore(images, kernels=None, sigma=None) -> images``, for images without a hole. Wiener and
  Richardson-Lucy are given the true blur kernels, which no network of this project is.
- ``chain(fill, *restorers)`` does one after the other. ``tune`` picks parameters on training photos.

PatchMatch, Telea, the wavelets and the estimate of an unknown noise level need packages that the rest does not:
``pip install "cascade-core[baselines]"``.

BM3D is missing on purpose. The package of its authors on PyPI (bm3d) comes as binaries under a license for
non-commercial use only, which neither this project's license nor its readers can promise. Who may use it can put
``lambda images, kernels, sigma: ...`` around it: a restorer is nothing but a function.
"""

from collections.abc import Callable

from .biharmonic import biharmonic
from .chain import chain
from .context_encoder import ContextEncoder, context_encoder
from .interface import Inpainter, Restorer, estimate_sigma
from .laplace import laplace
from .mean import mean
from .nearest import KNearest
from .neural_patch_synthesis import NeuralPatchSynthesis
from .non_local_means import non_local_means
from .patchmatch import patchmatch
from .richardson_lucy import richardson_lucy
from .telea import telea
from .total_variation import total_variation
from .tuning import tune
from .wavelets import wavelets
from .wiener import wiener

INPAINTERS: dict[str, Inpainter] = {
    "mean": mean,
    "laplace": laplace,
    "biharmonic": biharmonic,
    "telea": telea,
    "patchmatch": patchmatch,
}
"""Ready to use: ``INPAINTERS[name](images, masks)``."""

FACTORIES: dict[str, Callable[..., Inpainter]] = {
    "k-nn": KNearest,
    "context encoder": context_encoder,
    "neural patch synthesis": NeuralPatchSynthesis,
}
"""Need training photos or weights first: ``FACTORIES[name](...)`` makes an inpainter.

k-NN takes the photos' crops; the Context Encoder its network, from ``stages.train("context_encoder", ...)``; Neural
Patch Synthesis the inpainter that makes its content, which in Table 1 is the Context Encoder.
"""

DENOISERS: dict[str, Restorer] = {
    "non-local means": non_local_means,
    "total variation": total_variation,
    "wavelets": wavelets,
}
DEBLURRERS: dict[str, Restorer] = {"wiener": wiener, "richardson-lucy": richardson_lucy}

RESTORERS: dict[str, Restorer] = DENOISERS | DEBLURRERS
"""Ready to use: ``RESTORERS[name](images, kernels, sigma)``; the deblurrers insist on kernels."""

__all__ = [
    "DEBLURRERS",
    "DENOISERS",
    "FACTORIES",
    "INPAINTERS",
    "RESTORERS",
    "ContextEncoder",
    "Inpainter",
    "KNearest",
    "NeuralPatchSynthesis",
    "Restorer",
    "biharmonic",
    "chain",
    "context_encoder",
    "estimate_sigma",
    "laplace",
    "mean",
    "non_local_means",
    "patchmatch",
    "richardson_lucy",
    "telea",
    "total_variation",
    "tune",
    "wavelets",
    "wiener",
]
