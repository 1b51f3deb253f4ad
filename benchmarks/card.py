"""The card of the published weights, made from their records: `python -m benchmarks.card` writes results/WEIGHTS.md."""

from cascade_lab import published
from cascade_lab.evaluation import records, tables
from cascade_lab.training import checkpoints

METRICS = ("psnr_hole", "ssim_whole_composited")
METHODS = {"stage 1": "generator, MSE", "stage 1+": "generator+, MSE"}  # what the tables call the stages' weights
PHOTOS = {
    1000: "800 of ImageNet's, one a class, and the 200 of BSDS500 that BSDS300 lacks",
    9349: "ImageNet's 800, BSDS500's 200, and 8,349 of other sets: `cascade data trainingset` makes them",
}
NOT_FOR = """## What they are not for

- Faces, text, medical or forensic pictures: what stands in a hole afterwards is invented, however likely it looks.
- Large holes in large photos: the networks know 128 px; `cascade restore` fills more through a smaller copy.
- `cascade` fills the center and nothing else: one pixel off, it loses decibels. `cascade+` was trained on other places
  too, and is what `cascade restore` takes by default.
- Photos unlike the training's (Berkeley's and ImageNet's: landscapes, animals, things). Nothing was tested elsewhere.
- The training photos belong to their owners and serve research and education; take the weights for the same.
"""


def trained(record: dict) -> str:
    """A line of the card: how long a stage was trained."""
    vgg = record.get("perceptual_weights")
    loss = f"; VGG-16 of the perceptual loss: {vgg}" if vgg else ""
    return f"- {record['title']}: {record['steps']:,} steps, {record['seconds'] / 60:.0f} min{loss}"


def section(name: str) -> list[str]:
    """The card's lines on one weights file."""
    path = published.weights(name)
    about = checkpoints.read_about(path)
    record, settings = about["training"], about["settings"]
    photos, dilated = record["photos"], settings.get("generator_kind") == "dilated"
    widths = "-".join(map(str, settings["dilated_widths" if dilated else "generator_widths"]))
    second = [f"Deblurring-denoising network of {settings['deblur_denoise_width']} channels."]
    lines = [
        f"## {path.name}",
        "",
        f"`{name}`, {path.stat().st_size / 1e6:.1f} MB in half precision.",
        f"{'Dilated generator' if dilated else 'Generator'} of {widths} channels that finds in the hole: "
        f"{settings['generator_fill']}.",
        *(second if about["stage"] == 4 else ["`cascade train --from` goes on from it; the cascades above did not."]),
        f"Hole {settings['hole']} px in {settings['size']} px.",
        "",
        f"Profile {about['profile']}, seed {record['seed']}; {record['device']}, {record['precision']},",
        f"PyTorch {record['versions']['torch']}, commit {record['commit']}. Trained on {photos['count']} photos",
        f"(SHA-256 {photos['hash'][:16]}…): {PHOTOS[photos['count']]}.",
        "",
        *(trained(stage) for stage in published.every_training(name)),
        "",
        *(measured(name) if name in published.NAMES else seen(name)),
    ]
    return [*lines, ""]


def measured(name: str) -> list[str]:
    """Lines on what some weights fill a hole alone with, on each set of photos, beside the Laplace fill."""
    rows = records.read_table(published.folder(), "evaluations")
    lines = ["| photos | PSNR hole | SSIM whole, composited | the Laplace fill's |", "| --- | --- | --- | --- |"]
    for (data_set, mode), part in rows[rows["level"] == "none"].groupby(["data_set", "mode"]):
        measures = tables.by_method(part)
        found = tables.table({method: measures[method] for method in (name, "laplace")}, METRICS)
        (psnr, ssim), smooth = found.loc[name], [cell.mean for cell in found.loc["laplace"]]
        lines.append(f"| {data_set}, {mode} | {psnr:.2f} | {ssim:.3f} | {smooth[0]:.2f}, {smooth[1]:.3f} |")
    return lines


def seen(name: str) -> list[str]:
    """Lines on the fills of a stage's weights, beside the Laplace fill's."""
    rows = records.read_table(published.folder(), "perception")
    lines = ["| photos | PSNR hole | share of detail | the Laplace fill's |", "| --- | --- | --- | --- |"]
    for (data_set, mode), part in rows.groupby(["data_set", "mode"]):
        found = part[part["other"] == ""].pivot_table(index="method", columns="measure", values="value")
        (psnr, share), smooth = (found.loc[m, ["psnr_hole", "detail_share"]] for m in (METHODS[name], "laplace"))
        lines.append(f"| {data_set}, {mode} | {psnr:.2f} | {share:.3f} | {smooth.iloc[0]:.2f}, {smooth.iloc[1]:.3f} |")
    return lines


def main() -> None:
    lines = ["# The weights", "", "Made from the records by `python -m benchmarks.card`.", ""]
    for name in [*published.NAMES, *published.STAGES]:
        lines += section(name)
    text = "\n".join([*lines, NOT_FOR])
    checkpoints.write_atomically(published.folder() / "WEIGHTS.md", lambda file: file.write_text(text))


if __name__ == "__main__":
    main()
