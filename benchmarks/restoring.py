"""Images a second and memory of restoring, beside deepinv's DnCNN: `python -m benchmarks.restoring [device]`.

"a batch" is 8 photos of 256 px through the paper's network of 8 layers of 96 channels, run as in
`cascade_lab.restoration` (batch norm inside the convolutions, channels_last, bfloat16 where the hardware computes in
it), and through deepinv's DnCNN of 17 layers of 64, as it comes. The two differ by a tenth in their
multiply-accumulates (MACs), so the ratio is that of MACs a second: equal work. "as it comes" runs our own network that
way, too.

"a photo" is blur and noise taken off 2 and 12 megapixels in tiles, each in a process of its own, for its peak memory.
"""

import json
import subprocess
import sys
from collections.abc import Callable

import torch

from benchmarks.metrics import crops
from benchmarks.rounds import compare, take_turns
from cascade_core.models import DeblurDenoiseNet
from cascade_lab.restoration import quick
from cascade_lab.show import layers

BATCH, SIDE = 8, 256
PHOTOS = {"2 megapixels": (1225, 1633), "12 megapixels": (3000, 4000)}  # height, width

# What one process does: the photo is made as it would be read, and restored in its own memory. The kernel's count of a
# process's peak begins anew with it; getrusage would begin with what its parent held.
ALONE = """
import json, pathlib, re, sys, time
import numpy as np, torch
from cascade_lab import restoration
from cascade_lab.training import profiles, stages
height, width, device = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
paper = profiles.read("paper")
networks = {"deblur_denoise": stages.build("deblur_denoise", paper).eval().to(device)}
photo = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
start = time.perf_counter()
restoration.restore(photo, None, networks, stages.sizes(paper), deblur=True, in_place=True)
seconds = time.perf_counter() - start
status = pathlib.Path("/proc/self/status")  # Linux alone
kib = int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text())[1]) if status.is_file() else None
print(json.dumps({"seconds": seconds, "peak_memory": kib and 1024 * kib}))
"""


def contestants(device: str, side: int = SIDE) -> dict[str, tuple[Callable[[], torch.Tensor], int] | None]:
    """What restores the batch, and its MACs for one photo; None for a library that is not installed."""
    photos = torch.from_numpy(crops(BATCH, side)[0]).permute(0, 3, 1, 2).contiguous().to(device) / 255
    network = DeblurDenoiseNet().eval().to(device)
    ready, work = quick(network), layers.macs(network, 3, side, side)
    found = {
        "ours": (lambda: ready(photos), work),
        "ours, as it comes": (lambda: network(photos), work),
        "deepinv's DnCNN": None,
    }
    try:
        from deepinv.models import DnCNN

        peer = DnCNN(3, 3, depth=17, nf=64, pretrained=None).eval().to(device)
        found["deepinv's DnCNN"] = (lambda: peer(photos), layers.macs(peer, 3, side, side))
    except ImportError:
        pass
    return found


def alone(size: tuple[int, int], device: str) -> dict[str, float | None]:
    """Seconds and peak memory in bytes (None but on Linux) of a photo of (height, width), in a process of its own."""
    arguments = [sys.executable, "-c", ALONE, *map(str, size), device]
    return json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


@torch.no_grad()
def measure(
    device: str = "cpu", rounds: int = 9, side: int = SIDE, photos: dict[str, tuple[int, int]] = PHOTOS
) -> list[dict]:
    """Rows of task, way, seconds, images a second, MACs of a photo, how many times as fast ours is at equal work,
    and for a photo the peak memory and the photo's own bytes."""
    found = contestants(device, side)
    runs = {("a batch", way): item and item[0] for way, item in found.items()}
    rows = compare(take_turns(runs, rounds, device), list(runs))
    for row in rows:
        if row["seconds"]:
            row["images_per_second"] = BATCH / row["seconds"]
            row["multiply_adds"] = found[row["way"]][1]
            row["ours_is_times_as_fast"] *= found["ours"][1] / row["multiply_adds"]
    for way, size in photos.items():
        taken = alone(size, device)
        memory = {**taken, "photo": 3 * size[0] * size[1]}
        rows.append({"task": "a photo", "way": way, "ours_is_times_as_fast": None, **memory})
    return rows


def main() -> None:
    device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    print(f"{torch.cuda.get_device_name() if device != 'cpu' else f'CPU, {torch.get_num_threads()} threads'}")
    for row in measure(device):
        result = "not installed"
        if row["task"] == "a photo":
            result = (
                f"{row['seconds']:6.1f} s   peak {row['peak_memory'] / 1e6:,.0f} MB, photo {row['photo'] / 1e6:.0f} MB"
            )
        elif row["seconds"]:
            result = f"{row['images_per_second']:7.2f} images/s   "
            result += f"ours is {row['ours_is_times_as_fast']:.2f} times as fast at equal work"
        print(f"{row['task']:8} {row['way']:18} {result}")


if __name__ == "__main__":
    main()
