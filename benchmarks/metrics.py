"""Batched SSIM beside scikit-image's, image by image, on the same crops: `python -m benchmarks.metrics [device]`.

scikit-image computes on the processor, whatever the device. torchmetrics and kornia compute in float32, and the former
pads; one that is not installed is named as such.
"""

import sys
from collections.abc import Callable

import numpy as np
import torch
from skimage import data
from skimage.metrics import structural_similarity

from benchmarks.rounds import compare, take_turns
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


def contestants(n: int, device: str) -> dict[tuple[str, str], Callable[[], torch.Tensor] | None]:
    """What gives the n images' SSIM for each (task, library); None for a library that is not installed."""
    output, truth = crops(n)
    x, y = (torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(device) / 255 for images in (output, truth))
    pairs = list(zip(output, truth, strict=True))
    runs = {
        "ours": lambda: ssim(x, y),
        "scikit-image, a loop": lambda: torch.tensor([structural_similarity(*pair, **WANG) for pair in pairs]),
        "torchmetrics": None,
        "kornia": None,
    }
    try:
        from torchmetrics.functional.image import structural_similarity_index_measure

        runs["torchmetrics"] = lambda: structural_similarity_index_measure(x, y, data_range=1.0, reduction="none")
    except ImportError:
        pass
    try:
        from kornia.metrics import ssim as of_kornia

        runs["kornia"] = lambda: of_kornia(x, y, 11, padding="valid").mean((1, 2, 3))
    except ImportError:
        pass
    return {("SSIM", way): run for way, run in runs.items()}


def measure(device: str = "cpu", n: int = 96, rounds: int = 7) -> list[dict]:
    """Rows of task, way, seconds for all images, ms an image, how many times as fast ours is, and the largest
    difference from scikit-image's values; None for a library that is not installed."""
    runs = contestants(n, device)
    values = {name: run().cpu().double() for name, run in runs.items() if run}
    expected = values["SSIM", "scikit-image, a loop"]
    rows = compare(take_turns(runs, rounds, device), list(runs))
    for row in rows:
        result = values.get((row["task"], row["way"]))
        row["ms_per_image"] = row["seconds"] and 1e3 * row["seconds"] / n
        row["difference"] = None if result is None else float((result - expected).abs().max())
    return rows


def main() -> None:
    device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    print(f"{torch.cuda.get_device_name() if device != 'cpu' else f'CPU, {torch.get_num_threads()} threads'}")
    for row in measure(device):
        result = "not installed"
        if row["seconds"]:
            result = "{ms_per_image:7.3f} ms an image   ours is {ours_is_times_as_fast:.2f} times as fast".format(**row)
            result += f"   difference {row['difference']:.1e}"
        print(f"{row['way']:21} {result}")


if __name__ == "__main__":
    main()
