"""What the cascade is compared with: one interface, image and mask in, image out.

- An inpainter is ``fill(images, masks) -> images``. It never reads what lies under the mask, and returns the known
  pixels bit for bit. `INPAINTERS` are ready to use; `KNearest` takes training crops first, `context_encoder` its
  trained network, and `NeuralPatchSynthesis` the inpainter that makes its content, in Table 1 the Context Encoder.
- A restorer is ``restore(images, kernels=None, sigma=None) -> images``, for images without a hole: `DENOISERS`, and
  `DEBLURRERS`, which need the true blur kernels.
- ``chain(fill, *restorers)`` does one after the other. ``tune`` picks parameters on training photos.

PatchMatch, Telea, the wavelets and the estimate of an unknown noise level need packages that the rest does not:
``pip install "cascade-core[baselines]"``. BM3D is missing on purpose: its authors' package comes as binaries under a
license for non-commercial use only. Who may use it can put ``lambda images, kernels, sigma: ...`` around it.
"""

from cascade_core.fills import laplace
from cascade_lab.baselines.biharmonic import biharmonic
from cascade_lab.baselines.chain import chain
from cascade_lab.baselines.context_encoder import ContextEncoder, context_encoder
from cascade_lab.baselines.interface import Inpainter, Restorer, estimate_sigma
from cascade_lab.baselines.mean import mean
from cascade_lab.baselines.nearest import KNearest
from cascade_lab.baselines.neural_patch_synthesis import NeuralPatchSynthesis
from cascade_lab.baselines.non_local_means import non_local_means
from cascade_lab.baselines.patchmatch import patchmatch
from cascade_lab.baselines.richardson_lucy import richardson_lucy
from cascade_lab.baselines.telea import telea
from cascade_lab.baselines.total_variation import total_variation
from cascade_lab.baselines.tuning import tune
from cascade_lab.baselines.wavelets import wavelets
from cascade_lab.baselines.wiener import wiener

INPAINTERS: dict[str, Inpainter] = {fill.__name__: fill for fill in (mean, laplace, biharmonic, telea, patchmatch)}
DENOISERS: dict[str, Restorer] = {
    "non-local means": non_local_means,
    "total variation": total_variation,
    "wavelets": wavelets,
}
DEBLURRERS: dict[str, Restorer] = {"wiener": wiener, "richardson-lucy": richardson_lucy}
RESTORERS: dict[str, Restorer] = DENOISERS | DEBLURRERS

__all__ = [
    "DEBLURRERS",
    "DENOISERS",
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
