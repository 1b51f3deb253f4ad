"""The trained networks in the page: a reader paints over a photo, and their own device fills it.

`show` puts the demo under a notebook's cell; `write` puts the same beside the book's pages. Either way the browser
gets scripts that need no server: `demo.js` (the controls), `restore.js` (what `cascade_lab.restoration` does),
`degrade.js` (what `cascade_core.degradations` does) and a pack of ONNX Runtime Web, the exported networks and a few
photos, as text. They are read when the reader asks for them.
The folder ``runtime`` holds ONNX Runtime Web, pinned by the hashes in its ``manifest.json``.
"""

import base64
import gzip
import io
import json
import shutil
from pathlib import Path
from typing import Any

import jinja2
from IPython.display import HTML

from cascade_core import degradations
from cascade_core.fills import generator_input
from cascade_lab import data, export, published
from cascade_lab.training import checkpoints

FOLDER = Path(__file__).parent
RUNTIME = FOLDER / "runtime"
SOURCES = ("restore.js", "degrade.js", "worker.js", "demo.js")
PART = 2**20  # letters in a script of the pack; each read is a step of the progress bar
EXAMPLES = {
    "chelsea.png": "a cat",
    "rocket.jpg": "a rocket on its launch pad",
    "coffee.png": "a cup of coffee",
    "astronaut.png": "an astronaut",
}
SLIDERS = (  # name, what it sets, least, most, step, value at first
    ("Brush", "brush", 4, 60, 1, 24),
    ("Motion", "motion", 0, degradations.LEVELS["high"].length[1], 1, 0),
    ("Blur", "blur", 0, 3, 0.25, 0),
    ("Noise", "sigma", 0, degradations.LEVELS["high"].sigma[1], 1, 0),
)
VIEWS = (
    ("input", "input"),
    ("laplace", "Laplace fill"),
    ("generator", "generator"),
    ("cascade", "cascade"),
    ("truth", "true photo"),
)


def show(weights: Path | None = None, width: int = 640) -> HTML:
    """The demo as the output of a notebook's cell, in Jupyter and on Colab; all that it needs is inside.

    Args:
        weights: the networks (default: the package's cascade+).
        width: of the whole in CSS pixels, at most; a narrow page makes it smaller.

    Raises:
        ValueError: the weights cannot be read.
    """
    files = contents(weights or published.weights("cascade+"))
    read = scripts(files)
    inside = "".join(f'<script class="cascade-demo-file">{text}</script>' for text in read.values())
    return HTML(_page(files, read, width) + inside)


def write(folder: Path, width: int = 480, weights: Path | None = None) -> None:
    """Write the demo's scripts into a folder, with ``demo.html``, which a page includes, and the licenses.

    Raises:
        ValueError: the weights cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = contents(weights or published.weights("cascade+"))
    read = scripts(files)
    for name, text in {**read, "demo.html": _page(files, read, width)}.items():
        (folder / name).write_text(text, "utf-8")
    for name in ("LICENSE", "ThirdPartyNotices.txt", "manifest.json"):
        shutil.copyfile(RUNTIME / name, folder / name)


def scripts(files: dict[str, bytes]) -> dict[str, str]:
    """The scripts that the demo reads, by name: each says that it is there, so they may stand in the page, too.

    Args:
        files: the pack's `contents`.
    """
    parts = pack(files)
    sources = {name: (FOLDER / name).read_text("utf-8") for name in SOURCES}
    named = {f"part-{i}.js": f"cascadeDemo.parts[{i}] = '{part}'" for i, part in enumerate(parts["parts"])}
    listed = f"cascadeDemo.files = {json.dumps(parts['files'])}"
    there = "window.cascadeDemo ??= {parts: [], read: {}};\n"
    scripts = {**sources, "files.js": listed, **named}
    return {name: f"{there}{text};\ncascadeDemo.read['{name}'] = true;\n" for name, text in scripts.items()}


def contents(weights: Path) -> dict[str, bytes]:
    """The files in the pack by name; ``about.json`` says what the page has to know of the networks and the photos.

    Its ``difference`` is by how much storing the weights in 8 bits changes a pixel of the final image (gray levels).
    """
    files = {path.stem: gzip.decompress(path.read_bytes()) for path in sorted(RUNTIME.glob("*.gz"))}
    held = checkpoints.read_weights(weights)
    networks = [name for name in ("generator", "deblur_denoise") if name in held]
    full = [export.export(weights, name) for name in networks]
    small = [export.stored(model, "int8") for model in full]
    files |= {f"{name}.onnx": model.SerializeToString() for name, model in zip(networks, small, strict=True)}
    sets = [data.open_photos(None, kind) for kind in ("test", "train")]
    photos = [found for found in sets if isinstance(found, data.Photos)]
    opened = {name: found[i] for found in photos for i, name in enumerate(found.names) if name in EXAMPLES}
    for name in EXAMPLES:
        photo = opened[name].copy()
        photo.thumbnail((480, 480))
        photo.save(file := io.BytesIO(), "JPEG", quality=85, subsampling=0, optimize=True)
        files[name] = file.getvalue()
    about: dict[str, Any] = {k: export.about(weights)[k] for k in ("size", "hole", "hole_color", "fill", "reach")}
    about |= {"networks": networks, "examples": [{"file": name, "about": text} for name, text in EXAMPLES.items()]}
    crops = data.test_crops(list(opened.values()), about["size"], "resize")
    if "generator" in networks:
        holes = degradations.center_hole(len(crops), about["size"], about["size"], about["hole"])
        crops = generator_input(degradations.apply_mask(crops, holes, about["hole_color"]), holes, about["fill"])
    about["difference"] = export.difference(full, small, crops.numpy())
    return files | {"about.json": json.dumps(about).encode()}


def pack(files: dict[str, bytes]) -> dict[str, list]:
    """Files as one compressed text in parts, and the list of their names and lengths."""
    text = base64.b64encode(gzip.compress(b"".join(files.values()), 9, mtime=0)).decode()
    parts = [text[i : i + PART] for i in range(0, len(text), PART)]
    return {"files": [[name, len(content)] for name, content in files.items()], "parts": parts}


def _page(files: dict[str, bytes], read: dict[str, str], width: int) -> str:
    template = jinja2.Template((FOLDER / "demo.html").read_text("utf-8"), autoescape=True)
    about = json.loads(files["about.json"])
    return template.render(
        names=json.dumps(list(read)),
        megabytes=f"{sum(map(len, read.values())) / 1e6:.0f}",
        difference=f"{about['difference']:.1g}",
        width=width,
        views=VIEWS,
        sliders=SLIDERS,
    )
