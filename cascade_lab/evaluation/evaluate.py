"""The code under the book's tables: any methods, on any photos, by a written protocol.

From the shell::

    python -m cascade_lab.evaluation.evaluate --images PHOTOS --weights WEIGHTS --out result.json

The result holds every image's values, so means, intervals and paired differences can be taken from it at any time, and
what made it: the protocol, the photos' hash, the weights' hash, the versions and the command.
"""

import argparse
import dataclasses
import importlib.metadata
import importlib.resources
import json
import math
import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cascade_core import metrics
from cascade_core.degradations import HOLE_COLOR, KERNEL_SIZE, LEVELS, Degraded, center_hole, degrade, gaussian_kernels
from cascade_core.fills import generator_input
from cascade_core.models import Cascade
from cascade_lab import data, devices, provenance, published
from cascade_lab.baselines import DEBLURRERS, DENOISERS, INPAINTERS, KNearest, chain, estimate_sigma, laplace, tune
from cascade_lab.baselines.context_encoder import context_encoder
from cascade_lab.baselines.neural_patch_synthesis import NeuralPatchSynthesis
from cascade_lab.evaluation import tables
from cascade_lab.progress import Progress
from cascade_lab.training import checkpoints, stages

Method = Callable[[Degraded], Tensor]
"""From spoiled images ``(N, 3, H, W)`` and what spoiled them to restored ones of the same shape."""

NEIGHBORS = 16  # of k-NN: their mean is 1 dB better than the nearest alone; the paper does not give its k
TUNING_CROPS = 16  # of the training photos, that the classical chain is tuned on
GRIDS: dict[str, dict[str, Sequence[float]]] = {
    "non-local means": {"strength": (0.3, 0.5, 0.7)},
    "total variation": {"strength": (0.5, 0.7, 0.9, 1.2)},
    "wavelets": {"strength": (0.75, 1.0, 1.5)},
    "wiener": {"strength": (3, 10, 30, 100)},
    "richardson-lucy": {"steps": (2, 4, 8, 16)},
}
"""What is tried of each restorer's parameters; wide enough that at no level the best one lies at an end."""
GUESSES = (0.5, 0.8, 1.2, 1.6, 2.0, 2.6, 3.2)
"""Standard deviations in px of the Gaussian that the blind chain may take for every blur."""


@dataclass(frozen=True)
class Protocol:
    """How photos become test images, and how these are spoiled. The defaults are the book's primary protocol.

    Attributes:
        size: side of the test images, px.
        hole: side of the hole in the center, px.
        mode: "crop", the center at one pixel per pixel, or "shrink", the whole short side; "grid" for few large photos.
        level: of blur and noise before the hole, a name in `degradations.LEVELS`.
        seed: of blur and noise.
    """

    size: int = 128
    hole: int = 56
    mode: str = "crop"
    level: str = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f"unknown level {self.level!r}; the levels are {', '.join(LEVELS)}")
        if not 0 < self.hole < self.size:
            raise ValueError(f"the hole must be between 0 and the size ({self.size}), got {self.hole}")


def spoil(crops: Tensor, protocol: Protocol) -> Degraded:
    """The test images of a protocol: blur and noise of its level, then the hole; one seed gives one set."""
    masks = center_hole(len(crops), *crops.shape[-2:], protocol.hole)
    return degrade(crops, masks, {protocol.level: 1.0}, devices.random_for("cpu", protocol.seed), HOLE_COLOR)


def inpainter(fill: Callable[[Tensor, Tensor], Tensor]) -> Method:
    """A baseline as a method."""
    return lambda spoiled: fill(spoiled.images, spoiled.masks)


def network(module: nn.Module, output: str | None = None) -> Method:
    """A network in eval mode as a method; ``output`` names the cascade's result to take."""
    parameter = next(module.parameters())

    def restore(spoiled: Degraded) -> Tensor:
        images = (
            generator_input(spoiled.images, spoiled.masks, module.fill) if hasattr(module, "fill") else spoiled.images
        )
        with torch.no_grad():
            result = module(images.to(parameter.device))
        return (getattr(result, output) if output else result).to(spoiled.images.device)

    return restore


def available() -> tuple[dict[str, Method], dict[str, str]]:
    """The baselines that need nothing but the image: those that run here, and why each of the others does not.

    ``input`` is the spoiled image itself, what doing nothing is worth. Each of the others is tried on a small image, so
    a package that is installed without its library is found out, too.
    """
    spoiled = spoil(torch.full((1, 3, 32, 32), 0.5), Protocol(32, 8))
    usable: dict[str, Method] = {"input": lambda s: s.images}
    missing = {}
    for name, fill in INPAINTERS.items():
        try:
            fill(spoiled.images, spoiled.masks)
            usable[name] = inpainter(fill)
        except ImportError as error:
            missing[name] = str(error)
    return usable, missing


def k_nearest(crops: Tensor) -> Method:
    """The mean of the nearest training crops ``(M, 3, size, size)``; of all of them if they are few."""
    return inpainter(KNearest(crops, k=min(NEIGHBORS, len(crops))))


def tuned_chain(crops: Tensor, protocol: Protocol, told: bool = True) -> tuple[Method, list[str]]:
    """The best classical chain for a level: Laplace's fill, the best denoiser, the best deblurring behind it.

    Chosen and tuned by PSNR on training crops, spoiled by another seed than the test's: first each denoiser on the
    filled crops, then each deblurring method on what the best of them returns, which is left out where it does not
    help. A denoiser whose package is missing is not tried.

    Args:
        crops: training crops, ``(M, 3, size, size)`` in [0, 1].
        protocol: the level and the hole of the test.
        told: give it each image's true noise level and kernel, which no network is told. If not, the noise is estimated
            from the image, and one of `GUESSES`, the best on the training crops, stands for every kernel.

    Returns:
        The method, and its steps in words.

    Raises:
        ImportError: not told, and PyWavelets is missing, which estimates the noise.
    """
    spoiled = spoil(crops, dataclasses.replace(protocol, seed=protocol.seed + 1))
    kernels, sigma = {"": spoiled.kernels}, spoiled.sigma
    if not told:
        std = torch.tensor(GUESSES)[:, None].expand(-1, 2)
        guesses = gaussian_kernels(std, torch.zeros(len(GUESSES)), KERNEL_SIZE).split(1)
        kernels = {f", for a Gaussian of {width:g} px": guess for width, guess in zip(GUESSES, guesses, strict=True)}
        sigma = estimate_sigma(spoiled.images, spoiled.masks)
    images, restorers, steps, guessed = laplace(spoiled.images, spoiled.masks), [], ["laplace"], None
    for kind, blurs in ((DENOISERS, {"": None}), (DEBLURRERS, kernels)):
        best = (metrics.psnr(images, crops).mean().item(), None, {}, "")
        for (name, restore), blurred in product(kind.items(), blurs):
            given = {"images": images, "kernels": blurs[blurred], "sigma": sigma}
            try:
                _, tried = tune(restore, given, crops, GRIDS[name])
            except ImportError:
                continue
            best = max(best, *((psnr, name, found, blurred) for found, psnr in tried), key=lambda trial: trial[0])
        _, name, found, blurred = best
        if name is not None:
            restore, guessed = _with(kind[name], found), blurs[blurred]
            images = restore(images, guessed, sigma)
            restorers.append(restore)
            steps.append(f"{name} ({', '.join(f'{key} {value:g}' for key, value in found.items())}{blurred})")
    restore = chain(laplace, *restorers)
    if told:
        return lambda s: restore(s.images, s.masks, s.kernels, s.sigma), steps
    return lambda s: restore(s.images, s.masks, guessed), steps


def _with(restore: Callable[..., Tensor], parameters: Mapping[str, float]) -> Callable[..., Tensor]:
    return lambda images, kernels, sigma: restore(images, kernels, sigma, **parameters)


def of_weights(*paths: str | Path, device: torch.device | str = "cpu", vgg: str | None = None) -> dict[str, Method]:
    """The methods that weights files hold.

    The file of stage 4 holds ``cascade``, and with it ``inpainted``, its image between the two networks. Other files
    hold one network, ``generator`` (``generator, MSE`` if stage 1's), ``refiner`` or ``context encoder``; generator and
    refiner together also make ``separate``: trained each on its own, one after the other. What judged them in training
    is left out. With weights for a VGG-16 (``"imagenet"``, ``"random"`` or a path) the Context Encoder also brings
    ``neural patch synthesis``.

    Raises:
        ValueError: a file that is no weights file, and two files with the same network.
    """
    methods, alone = {}, {}
    for path in paths:
        networks = {name: n.to(device) for name, n in stages.load(path).items() if name not in published.CRITICS}
        if set(networks) == {"generator"} and checkpoints.read_about(Path(path)).get("stage") == 1:
            networks = {"generator, MSE": networks["generator"]}
        if set(networks) == {"generator", "deblur_denoise"}:
            found = of_cascade(Cascade(**networks).eval())
        elif "context_encoder" in networks:
            content = context_encoder(networks["context_encoder"])
            found = {"context encoder": inpainter(content)}
            if vgg:
                found["neural patch synthesis"] = inpainter(NeuralPatchSynthesis(content, vgg))
        else:
            found = {name: network(n) for name, n in networks.items()}
            alone |= networks
        if twice := set(found) & set(methods):
            raise ValueError(
                f"{path} holds the {sorted(twice)[0]}, as does another of the weights files: give one of them"
            )
        methods |= found
    if {"generator", "deblur_denoise"} <= set(alone):
        methods["separate"] = network(Cascade(alone["generator"], alone["deblur_denoise"]).eval(), "restored")
    return methods


def of_cascade(cascade: Cascade) -> dict[str, Method]:
    """Both images of a cascade in eval mode: ``inpainted``, between the networks, and ``cascade``, the final one.

    A cascade that does not start from the paper's constant color is called ``cascade+``.
    """
    plus = "" if cascade.fill == "color" else "+"
    return {f"inpainted{plus}": network(cascade, "inpainted"), f"cascade{plus}": network(cascade, "restored")}


def restored(
    method: Method, spoiled: Degraded, batch: int = 50, progress: Callable[[int], None] | None = None
) -> Tensor:
    """What a method makes of spoiled images, ``(N, 3, H, W)``, ``batch`` at a time; `progress` gets those done."""
    outputs = []
    for i in range(0, len(spoiled.images), batch):
        outputs.append(method(Degraded(*(x[i : i + batch] for x in spoiled))))
        if progress:
            progress(min(i + batch, len(spoiled.images)))
    return torch.cat(outputs)


def evaluate(
    methods: Mapping[str, Method],
    crops: Tensor,
    protocol: Protocol,
    progress: Callable[[int], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Measure each method on each image.

    Args:
        crops: the true images, ``(N, 3, size, size)`` in [0, 1], from `data.test_crops`.
        progress: called with the number of images that a method has restored.

    Returns:
        method -> ``"values"``, what `metrics.measure` says of each image, and ``"seconds_per_image"``.
    """
    spoiled = spoil(crops, protocol)
    results = {}
    for name, method in methods.items():
        begin = time.monotonic()
        outputs = restored(method, spoiled, progress=progress)
        seconds = (time.monotonic() - begin) / len(crops)
        results[name] = {"values": metrics.measure(outputs, crops, spoiled.masks), "seconds_per_image": seconds}
    return results


def values_of(results: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Tensor]]:
    """method -> metric -> one value an image, for `tables.table`; from `evaluate`, or from a result that was read."""
    return {
        name: {metric: torch.as_tensor(value, dtype=torch.float64) for metric, value in result["values"].items()}
        for name, result in results.items()
    }


def paper() -> dict[str, Any]:
    """The paper's own numbers: table (or section) -> data set -> "psnr" or "ssim" -> row -> number.

    Example:
        >>> paper()["table 1"]["BSD300"]["psnr"]["cascade"]
        18.41
    """
    return json.loads(importlib.resources.files("cascade_lab.evaluation").joinpath("paper_tables.json").read_text())


Readings = Mapping[str, Mapping[str, Mapping[str, Tensor]]]
"""How photos became test images ("crop", "shrink") -> method -> metric -> values; the first is the primary reading."""


def table_1(readings: Readings, data_set: str | None = None) -> str:
    """The book's Table 1 in Markdown, the hole alone: a row for each method, the paper's numbers beside ours.

    Args:
        readings: the first one's methods are the rows; of the others PSNR on the hole and SSIM on the whole are shown.
        data_set: "BSD300" or "ImageNet", whose column of the paper stands beside; its methods that were not run here
            get a row all the same. ``None`` leaves the paper out.
    """
    theirs = paper()["table 1"][data_set] if data_set else {"psnr": {}, "ssim": {}}
    rows = rows_of(readings, metrics.PRIMARY, metrics.PRIMARY[:2])
    missing = [name for name in theirs["psnr"] if name not in next(iter(readings.values()))]
    numbers = {name: f"{value:.2f}<br>{theirs['ssim'][name]:.3f}" for name, value in theirs["psnr"].items()}
    cells = [numbers.get(name, "") for name in [*(row["method"] for row in rows), *missing]]
    rows += [{key: f"{name}, not run" if key == "method" else None for key in rows[0]} for name in missing]
    return beside(markdown(rows), f"paper on {data_set}", cells) if data_set else markdown(rows)


def table_3(readings: Readings) -> str:
    """The book's Table 3 in Markdown, hole, blur and noise at once: PSNR by region, and SSIM on the whole."""
    columns = ("psnr_hole", "psnr_context", "psnr_whole", "ssim_whole")
    return markdown(rows_of(readings, columns, ("psnr_hole", "psnr_whole")))


def rows_of(readings: Readings, columns: Sequence[str], fewer: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each method of the first reading: its ``columns``, and of the other readings ``fewer``."""
    primary, rows = next(iter(readings)), []
    for name in readings[primary]:
        row: dict[str, Any] = {"method": name}
        for mode, values in readings.items():
            for column in columns if mode == primary else fewer:
                row[f"{column}, {mode}"] = metrics.mean_interval(values[name][column]) if name in values else None
        rows.append(row)
    return rows


def beside(table: str, title: str, cells: Sequence[str]) -> str:
    """A Markdown table with one more column.

    Example:
        >>> beside("| a |\\n| --- |\\n| 1 |", "b", ["2"]).splitlines()
        ['| a | b |', '| --- | --- |', '| 1 | 2 |']
    """
    lines = zip(table.splitlines(), [title, "---", *cells], strict=True)
    return "\n".join(f"{line} {cell} |" for line, cell in lines)


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """`tables.markdown` with the intervals under the means, each in one line: narrower, and columns stay columns."""
    text = re.sub(r" \[(\S+), (\S+)\]", "<br>[\\1,\N{NO-BREAK SPACE}\\2]", tables.markdown(rows))
    return text.replace("psnr", "PSNR").replace("ssim", "SSIM")


def write(path: Path, content: Mapping[str, Any]) -> None:
    """A result as JSON; infinite values (two equal images) as the text ``"inf"``, which JSON has no number for."""

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            return [round(v, 5) if v < float("inf") else "inf" for v in value.tolist()]
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    def in_one_line(numbers: re.Match) -> str:
        return "[" + re.sub(r"\n\s*", " ", numbers[0][1:-1]).strip() + "]"

    text = json.dumps(plain(content), indent=1, allow_nan=False)
    text = re.sub(r"\[\n[^][{}]*\]", in_one_line, text)
    checkpoints.write_atomically(path, lambda file: file.write_text(text))


def read(path: str | Path) -> dict[str, Any]:
    """A result that was written; its values are numbers again.

    Raises:
        ValueError: it is no such file.
    """
    try:
        content = json.loads(Path(path).read_text())
        Protocol(**content["protocol"])
        for result in content["methods"].values():
            result["values"] = {
                name.replace("pasted", "composited"): [float(v) for v in values]
                for name, values in result["values"].items()
            }
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is no result of cascade_lab.evaluation.evaluate ({error})") from error
    return content


def recorded(folder: str | Path, protocol: Protocol) -> dict[str, dict[str, dict[str, dict[str, Tensor]]]]:
    """What a folder's ``evaluation*.json`` hold by a protocol: data set -> mode -> method -> metric -> values.

    Results of other sizes, holes, levels and seeds are passed over; both modes are taken.

    Raises:
        ValueError: two results by the same name and mode were made of different images.
    """
    found: dict[str, dict[str, dict[str, dict[str, Tensor]]]] = {}
    images: dict[tuple[str, str], Any] = {}
    for path in sorted(Path(folder).glob("evaluation*.json"), key=lambda path: path.stem):
        result = read(path)
        name, mode = result["name"], result["protocol"]["mode"]
        if Protocol(**result["protocol"]) != dataclasses.replace(protocol, mode=mode):
            continue
        if images.setdefault((name, mode), result["images"]) != result["images"]:
            raise ValueError(f"{path} was made of other images than the results before it: give it another --name")
        found.setdefault(name, {}).setdefault(mode, {}).update(values_of(result["methods"]))
    return found


def circumstances(device: torch.device) -> dict[str, Any]:
    """Device, versions and commit, as in a training's record, and the versions of what the baselines stand on."""
    known = provenance.circumstances(device, "32-true")
    for name in ("numpy", "scikit-image", "PyPatchMatch", "opencv-python-headless", "opencv-python", "PyWavelets"):
        try:
            known["versions"][name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return known


def weights_record(path: Path) -> dict[str, Any]:
    """A weights file's hash and, if it lies where it was trained, the training's record."""
    about = checkpoints.record_beside(path) or checkpoints.read_about(path)
    about = about.get("training", about)
    return {"file": f"{path.parent.name}/{path.name}", "sha256": checkpoints.sha256(path), "training": about}


def writable(path: Path, force: bool) -> None:
    """Raise ``ValueError`` where a result cannot be written, or stands already and may not be replaced."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder: --out takes the file to write, such as {path / 'evaluation.json'}")
    if path.exists() and not force:
        raise ValueError(f"{path} is there already: --force replaces it")
    try:
        checkpoints.try_writing(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error}") from error


def methods_for(
    args: argparse.Namespace, protocol: Protocol, device: torch.device
) -> tuple[dict[str, Method], dict[str, Any]]:
    """The methods that were asked for, ready to run, and what the result tells of them.

    Raises:
        ValueError: one is unknown, or lacks its package, its weights or its training photos.
    """
    usable, missing = available()
    if args.weights is None:  # those of the package, where they are for such images
        own = published.available()
        settings = [checkpoints.read_about(path)["settings"] for path in own]
        fits = all((s["size"], s["hole"]) == (protocol.size, protocol.hole) for s in settings)
        args.weights = own if fits else []
    usable |= of_weights(*args.weights, device=device, vgg=args.vgg)
    chains = {"classical chain": True, "blind chain": False}  # told what spoiled the image, or not
    trained = ("k-nn", *chains)
    asked = args.methods
    if asked is None:
        asked = [*usable, *(trained[: 1 if protocol.level == "none" else 2] if args.train else ())]
    else:
        asked = list(dict.fromkeys(asked))
    for name in asked:
        if name in missing:
            raise ValueError(f"{name}: {missing[name]}")
        if name in trained and not args.train:
            raise ValueError(f"{name} needs training photos: --train FOLDER")
        if name not in usable and name not in trained:
            known = ", ".join([*usable, *missing, *trained])
            hint = "" if args.weights else "; networks come with --weights FILE"
            raise ValueError(f"unknown method {name!r}; there are {known}{hint}")
    about: dict[str, Any] = {"weights": [weights_record(path) for path in args.weights]}
    if "neural patch synthesis" in asked:
        about["vgg"] = args.vgg
    if needing := [name for name in asked if name in trained]:
        photos = data.open_photos(args.train, "train", whole=True)
        if photos.hash in [data.open_photos(folder, "test", whole=True).hash for folder in args.images]:
            raise ValueError(
                f"--train {args.train} holds the very photos of --images: a test photo may not train a method"
            )
        batches = data.training_batches(photos, protocol.size, 1, protocol.seed, 0, args.crops)
        crops = torch.cat([crop.mul(255).byte() for crop in batches])
        about["train"] = {**data.photos_record(photos), "crops": len(crops)}
        if "k-nn" in needing:
            usable["k-nn"] = k_nearest(crops)
        for name in [chained for chained in chains if chained in needing]:
            usable[name], about[name] = tuned_chain(crops[:TUNING_CROPS].float() / 255, protocol, chains[name])
    return {name: usable[name] for name in asked}, about


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cascade_lab.evaluation.evaluate", description="Measure methods on a folder of photos."
    )
    parser.add_argument("--images", nargs="+", help="folders of test photos, taken together (default: scikit-image's)")
    parser.add_argument("--weights", nargs="*", type=Path, help="files of trained stages (default: the package's)")
    parser.add_argument("--out", type=Path, required=True, help="the result, a JSON file")
    parser.add_argument("--force", action="store_true", help="replace a result that is there")
    parser.add_argument(
        "--methods",
        nargs="+",
        help=f"input, {', '.join(INPAINTERS)}, k-nn, 'classical chain', 'blind chain' and, as the weights are, "
        "generator, refiner, separate, inpainted, cascade, 'context encoder', 'neural patch synthesis' "
        "(default: all that can run)",
    )
    parser.add_argument("--vgg", help="imagenet, random or a VGG-16 state dict: neural patch synthesis runs on it")
    parser.add_argument("--train", help="a folder of training photos, for k-nn and the chains")
    parser.add_argument("--crops", type=int, default=12_000, help="training crops to take from them (default: 12000)")
    parser.add_argument("--name", help="the data set's name in tables, BSD300, say (default: the folder's)")
    parser.add_argument("--size", type=int, default=Protocol.size, help="of the test images, px (default: 128)")
    parser.add_argument("--hole", type=int, default=Protocol.hole, help="of the hole, px (default: 56)")
    parser.add_argument("--mode", default=Protocol.mode, choices=("crop", "shrink", "grid"), help="default: crop")
    parser.add_argument("--level", default=Protocol.level, choices=LEVELS, help="blur and noise (default: none)")
    parser.add_argument("--seed", type=int, default=Protocol.seed, help="of blur and noise (default: 0)")
    return parser


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    args = parser().parse_args(arguments)
    try:
        writable(args.out, args.force)
        args.images = args.images or [None]  # scikit-image's
        protocol = Protocol(args.size, args.hole, args.mode, args.level, args.seed)
        if args.crops < 1:
            raise ValueError(f"--crops must be at least 1, got {args.crops}")
        photos = [data.open_photos(folder, "test", whole=True) for folder in args.images]
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        methods, about = methods_for(args, protocol, device)
        crops = torch.cat([data.test_crops(part, protocol.size, protocol.mode) for part in photos])
        results = {}
        for name, method in methods.items():
            bar = Progress(name, len(crops))

            def show(done: int, bar: Progress = bar) -> None:
                if done < bar.total:  # the end has a line of its own, below
                    bar.update(done, {})

            results |= evaluate({name: method}, crops, protocol, show)
            values, seconds = results[name]["values"], results[name]["seconds_per_image"]
            means = {metric: metrics.mean_interval(values[metric]) for metric in metrics.PRIMARY}
            results[name]["summary"] = {  # one image has a mean and no interval
                metric: {key: round(v, 4) if math.isfinite(v) else None for key, v in interval._asdict().items()}
                for metric, interval in means.items()
            }
            hole, whole = (means[metric] for metric in ("psnr_hole", "ssim_whole"))
            print(f"{name}: hole {hole:.2f} dB, whole SSIM {whole:.3f}, {1000 * seconds:.0f} ms an image", flush=True)
        content = {
            "kind": "evaluation",
            "name": args.name or Path(args.images[0] or "scikit-image").name,
            "protocol": dataclasses.asdict(protocol),
            "photos": [data.photos_record(part) for part in photos],
            "images": [name for part in photos for name in data.crop_names(part, protocol.size, protocol.mode)],
            **about,
            "methods": results,
            **circumstances(device),
            "command": shlex.join(["python", "-m", "cascade_lab.evaluation.evaluate", *arguments]),
        }
        write(args.out, content)
    except (ImportError, ValueError, RuntimeError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
