"""Images a second of blur and noise, beside deepinv and kornia: `python -m benchmarks.degradations [device]`.

Two tasks on a batch of 64 photos of 128 px with kernels of 21 px: "blur" convolves with the same kernels, drawn by
`sample` in equal shares of its levels; "draw, blur, noise" lets each library draw a motion kernel for every photo first
and add noise after. A peer that is not installed is named as such.

Why the core draws its own kernels: deepinv 0.5 counts a path's points per pixel, one image after another, neither
anti-aliased nor sub-pixel, and refuses a generator of another device; kornia 0.9 has straight motion only, and
Gaussians along the axes.
"""

import sys
from collections.abc import Callable

import torch

from benchmarks.rounds import compare, take_turns
from cascade_core.degradations import KERNEL_SIZE, LEVELS, add_noise, blur, motion_kernels, sample

BATCH, SIDE, SIGMA = 64, 128, 25.0


def contestants(device: str) -> dict[tuple[str, str], Callable[[], torch.Tensor] | None]:
    """What runs for each (task, library); None for a library that is not installed."""
    generator = torch.Generator(device).manual_seed(0)
    images = torch.rand(BATCH, 3, SIDE, SIDE, generator=generator, device=device)
    kernels, _ = sample(dict.fromkeys(LEVELS, 1 / len(LEVELS)), BATCH, generator, device)

    def ours() -> torch.Tensor:
        length = 3 + 17 * torch.rand(BATCH, generator=generator, device=device)
        return add_noise(blur(images, motion_kernels(length, KERNEL_SIZE, generator)), SIGMA, generator)

    runs = {("blur", "ours"): lambda: blur(images, kernels), ("draw, blur, noise", "ours"): ours}
    try:
        from deepinv.physics import GaussianNoise
        from deepinv.physics.functional import conv2d, conv2d_fft
        from deepinv.physics.generator import MotionBlurGenerator

        motion = MotionBlurGenerator((KERNEL_SIZE, KERNEL_SIZE), rng=generator, device=device)
        noise = GaussianNoise(SIGMA / 255, rng=generator)
        runs["blur", "deepinv"] = lambda: conv2d(images, kernels, padding="reflect")
        runs["blur", "deepinv, FFT"] = lambda: conv2d_fft(images, kernels, padding="reflect")
        runs["draw, blur, noise", "deepinv"] = lambda: noise(
            conv2d(images, motion.step(BATCH)["filter"], padding="reflect")
        )
    except ImportError:
        runs |= {("blur", "deepinv"): None, ("draw, blur, noise", "deepinv"): None}
    try:
        from kornia.augmentation import RandomGaussianNoise, RandomMotionBlur
        from kornia.filters import filter2d

        straight = RandomMotionBlur(KERNEL_SIZE, 180.0, 1.0, border_type="reflect", p=1.0)
        add = RandomGaussianNoise(std=SIGMA / 255, p=1.0)
        runs["blur", "kornia"] = lambda: filter2d(images, kernels[:, 0], behaviour="conv")
        runs["draw, blur, noise", "kornia"] = lambda: add(straight(images))
    except ImportError:
        runs |= {("blur", "kornia"): None, ("draw, blur, noise", "kornia"): None}
    return runs


def measure(device: str = "cpu", rounds: int = 15) -> list[dict]:
    """Rows of task, way (the library), seconds a batch, images a second and how many times as fast ours is; None for a
    library that is not installed."""
    runs = contestants(device)
    rows = compare(take_turns(runs, rounds, device), sorted(runs))
    return [{**row, "images_per_second": row["seconds"] and BATCH / row["seconds"]} for row in rows]


def main() -> None:
    device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    print(f"{torch.cuda.get_device_name() if device != 'cpu' else f'CPU, {torch.get_num_threads()} threads'}")
    for row in measure(device):
        rate, ratio = row["images_per_second"], row["ours_is_times_as_fast"]
        result = f"{rate:10,.0f} images/s   ours is {ratio:.2f} times as fast" if rate else "not installed"
        print(f"{row['task']:18} {row['way']:13} {result}")


if __name__ == "__main__":
    main()
