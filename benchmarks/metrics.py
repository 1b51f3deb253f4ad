"""Batched SSIM beside scikit-image's, image by image, on the same 128 px crops: `python -m benchmarks.metrics`.

torchmetrics and kornia stand beside it where they are installed. Both compute in float32, and torchmetrics pads.
"""

import contextlib
import time
from collections.abc import Callable

import numpy as np
import torch
from skimage import data
from skimage.metrics import structural_similarity

from cascade_core.metrics import ssim

WANG = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=-1)


def crops(n: int, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """n uint8 crops (n, size, size, 3) of three photos, and the same with noise from faint to strong."""
    rng = np.random.default_rng(0)
    photos = [data.astronaut(), data.chelsea(), data.coffee()]
    truth = []
    for k in range(n):
        photo = photos[k % len(photos)]
        top, left = rng.integers(photo.shape[0] - size), rng.integers(photo.shape[1] - size)
        truth.append(photo[top : top + size, left : left + size])
    truth = np.stack(truth)
    noise = rng.normal(size=truth.shape) * np.geomspace(1, 80, n)[:, None, None, None]
    return np.clip(np.round(truth + noise), 0, 255).astype(np.uint8), truth


def fastest(call: Callable, repeats: int) -> tuple[float, np.ndarray]:
    """The shortest of several runs in seconds, after one to warm up, and what the call returned."""
    result, seconds = call().cpu().numpy(), []
    for _ in range(repeats):
        start = time.perf_counter()
        call().cpu()  # waits for the device
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def peers() -> dict[str, Callable]:
    """The other libraries' SSIM per image, where they are installed."""
    found = {}
    with contextlib.suppress(ImportError):
        from torchmetrics.functional.image import structural_similarity_index_measure as of_torchmetrics

        found["torchmetrics (float32, padded)"] = lambda x, y: of_torchmetrics(x, y, data_range=1.0, reduction="none")
    with contextlib.suppress(ImportError):
        from kornia.metrics import ssim as of_kornia

        found["kornia (float32)"] = lambda x, y: of_kornia(x, y, 11, padding="valid").mean((1, 2, 3))
    return found


def measure(n: int = 96, repeats: int = 7) -> list[dict]:
    """A row for each way: ms an image, how many times as fast as scikit-image, largest difference from it."""
    output, truth = crops(n)
    pairs = list(zip(output, truth, strict=True))
    tensors = [torch.from_numpy(images).permute(0, 3, 1, 2).contiguous() / 255 for images in (output, truth)]
    seconds, expected = fastest(lambda: torch.tensor([structural_similarity(*pair, **WANG) for pair in pairs]), repeats)
    rows = [{"way": "scikit-image, a loop", "ms": 1e3 * seconds / n, "ratio": 1.0, "difference": 0.0}]
    for device in ("cpu", "cuda")[: 1 + torch.cuda.is_available()]:
        x, y = (images.to(device) for images in tensors)
        for name, way in {"cascade_core": ssim, **peers()}.items():
            taken, result = fastest(lambda way=way, x=x, y=y: way(x, y), repeats)
            row = {"way": f"{name}, {device}", "ms": 1e3 * taken / n, "ratio": seconds / taken}
            rows.append({**row, "difference": float(np.abs(result - expected).max())})
    return rows


if __name__ == "__main__":
    print(f"{torch.get_num_threads()} threads; torchmetrics and kornia are left out where they are not installed")
    for row in measure():
        print("{way:40s} {ms:7.3f} ms an image {ratio:7.1f} x   difference {difference:.1e}".format(**row))
