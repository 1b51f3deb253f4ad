"""The card of the published weights, made from their records: `python -m benchmarks.card` writes results/WEIGHTS.md."""

from cascade_core import checkpoints, evaluate, metrics, release

NOT_FOR = """## What they are not for

- Faces, text, medical or forensic pictures: what stands in a hole afterwards is invented, however likely it looks.
- Large holes in large photos: the networks know 128 px; `cascade_core.restore` fills more through a smaller copy.
- `cascade` fills the center and nothing else: one pixel off, it loses decibels. `cascade+` was trained on other places
  too, and is what `python -m cascade_core.restore` takes by default.
- Photos unlike the training's (Berkeley's and ImageNet's: landscapes, animals, things). Nothing was tested elsewhere.
- The training photos belong to their owners and serve research and education; take the weights for the same.
"""


def training(name: str) -> list[str]:
    """What trained the weights, a line for each stage."""
    header = checkpoints.read_weights(release.weights(name))[1]
    stages = [*header["training"]["before"], header["training"]]
    stages = sorted(
        [*stages, *(s for stage in stages for s in stage.get("before", []) if stage["stage"] != 4)], key=key
    )
    lines = []
    for stage in stages:
        vgg = (
            f", perceptual loss on VGG-16 weights: {stage['perceptual_weights']}"
            if "perceptual_weights" in stage
            else ""
        )
        lines.append(f"- {stage['title']}: {stage['steps']:,} steps, {stage['seconds'] / 60:.0f} min{vgg}")
    return lines


def key(stage: dict) -> int:
    return stage["stage"]


def main() -> None:
    lines = ["# The weights", "", "Made by `python -m benchmarks.card` from the records; do not edit.", ""]
    for name, file in release.NAMES.items():
        path = release.weights(name)
        about = checkpoints.read_weights(path)[1]
        record, settings = about["training"], about["settings"]
        photos = record["photos"]
        lines += [f"## {file}", "", f"`{name}`: {path.stat().st_size / 1e6:.1f} MB, half precision. "]
        lines[-1] += f"Generator {settings['generator_widths']} channels, start: {settings['generator_start']}; "
        lines[-1] += (
            f"second network {settings['refiner_width']} channels. A hole of {settings['hole']} px in {settings['size']} px."
        )
        lines += [
            "",
            f"Profile {about['profile']}, seed {record['seed']}, {photos['count']} photos (SHA-256 {photos['hash'][:16]}…: ",
        ]
        lines[-1] += "800 of ImageNet's, one a class, and the 200 of BSDS500 that are not in BSDS300), "
        lines[-1] += f"{record['device']}, {record['precision']}, PyTorch {record['versions']['torch']}:"
        lines += [
            "",
            *training(name),
            "",
            "| photos | PSNR hole | SSIM whole, pasted | Laplace's fill |",
            "| --- " * 4 + "|",
        ]
        for data_set, modes in evaluate.recorded(release.folder(), evaluate.Protocol()).items():
            for mode, values in modes.items():
                if {name, "laplace"} <= set(values):
                    psnr, ssim = (metrics.mean_interval(values[name][m]) for m in ("psnr_hole", "ssim_whole_pasted"))
                    smooth = values["laplace"]
                    other = f"{smooth['psnr_hole'].mean():.2f} / {smooth['ssim_whole_pasted'].mean():.3f}"
                    lines.append(f"| {data_set}, {mode} | {psnr:.2f} | {ssim:.3f} | {other} |")
        lines.append("")
    text = "\n".join([*lines, NOT_FOR])
    checkpoints.write_atomically(release.folder() / "WEIGHTS.md", lambda file: file.write_text(text))


if __name__ == "__main__":
    main()
