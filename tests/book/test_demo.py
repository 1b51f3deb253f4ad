"""The demo in real browsers: its pixels are those of Python's `restore`, it asks for nothing outside, works by mouse,
touch and keyboard, and whatever fails ends in a sentence. It needs no built book."""

import base64
import functools
import gzip
import hashlib
import html
import io
import json
import threading
import time
from importlib.resources import files

import numpy as np
import pytest
import render
import torch
from PIL import Image

from cascade_core.conventions import from_pixels, to_pixels
from cascade_core.fills import laplace
from cascade_lab import data, published, restoration
from cascade_lab.show import demo
from cascade_lab.training import checkpoints, stages

from . import browsers

WEIGHTS = published.weights("cascade+")
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>The demo</title><link rel="icon" href="data:,">
<style>:root {{color-scheme: light dark}} body {{margin: 1rem}}</style><body><main><h1>The demo</h1>{}</main>"""

# In the page: bytes as text, since WebDriver knows no other. The demo's `made` runs a task in the worker.
START = """async () => {
  const work = document.querySelector('.cascade-demo .work'), start = document.querySelector('.start button');
  const begin = performance.now();
  start.click();
  while (work.hidden && start.disabled) await new Promise(go => setTimeout(go, 10));
  return [document.querySelector('.status').textContent, performance.now() - begin];
}"""
RESTORE = """async (photo, mask, width, height, deblur) => {
  const bytes = text => Uint8ClampedArray.from(atob(text), letter => letter.charCodeAt(0));
  const text = ({data}) => {
    let letters = '';
    for (let i = 0; i < data.length; i += 4096) letters += String.fromCharCode(...data.subarray(i, i + 4096));
    return btoa(letters);
  };
  const given = {photo: {width, height, data: bytes(photo)}, mask: Uint8Array.from(bytes(mask)), deblur};
  const begin = performance.now();
  const {made} = document.querySelector('.cascade-demo').cascadeDemo;
  const result = await made('restore', {...given, blur: 0, sigma: 0, seed: 0});
  const seconds = (performance.now() - begin) / 1000;
  return [seconds, ...['laplace', 'generator', 'cascade'].map(name => text(result[name]))];
}"""
OPEN = """async (photo) => {
  const bytes = Uint8Array.from(atob(photo), letter => letter.charCodeAt(0));
  const {width, height, data} = await document.querySelector('.cascade-demo').cascadeDemo.open(new Blob([bytes]), 'it');
  return [width, height, ...data.slice(0, 3)];
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A page with the demo, and its scripts beside it, as in the book."""
    folder = tmp_path_factory.mktemp("site")
    demo.write(folder / "_static" / "demo")
    (folder / "index.html").write_text(PAGE.format((folder / "_static" / "demo" / "demo.html").read_text("utf-8")))
    return folder


@pytest.fixture(scope="module")
def addresses(site):
    handler = functools.partial(browsers.Quiet, directory=site)
    with browsers.http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {"file": site.as_uri(), "server": f"http://127.0.0.1:{server.server_port}"}
        server.shutdown()


class TestPack:
    def test_onnx_runtime_web_is_the_pinned_one(self):
        manifest = json.loads((demo.RUNTIME / "manifest.json").read_text())
        for name, wanted in manifest["sha256"].items():
            assert hashlib.sha256(gzip.decompress((demo.RUNTIME / f"{name}.gz").read_bytes())).hexdigest() == wanted
        assert (demo.RUNTIME / "LICENSE").read_text().startswith("MIT License")

    def test_it_is_whole_and_its_networks_are_small(self, site):
        folder = site / "_static" / "demo"
        parts = [folder / f"part-{i}.js" for i in range(len(list(folder.glob("part-*.js"))))]
        text = "".join(path.read_text().split("'")[1] for path in parts)
        listed = json.loads((folder / "files.js").read_text().split("files = ")[1].split(";\n")[0])
        unpacked = gzip.decompress(base64.b64decode(text))
        assert len(unpacked) == sum(length for _, length in listed)
        assert sum(length for name, length in listed if name.endswith(".onnx")) < 6e6
        assert max(path.stat().st_size for path in folder.iterdir()) < 1.1e6

    def test_the_scripts_are_short(self):
        assert all(len(path.read_text().splitlines()) < 400 for path in demo.FOLDER.glob("*.js"))


# ---- the pixels, in three browsers ----


def holes(height, width):
    """A scratch, a blot and a square that is wider than the generator's own hole."""
    y, x = np.mgrid[:height, :width]
    scratch = abs(y - (0.78 + 0.05 * np.sin(7 * x / width)) * height) < 5
    blot = np.hypot(y - 0.2 * height, x - 0.15 * width) < 20
    square = (abs(y - 0.4 * height) < 45) & (abs(x - 0.65 * width) < 45)
    return {"blot": blot, "all": scratch | blot | square, "nothing": np.zeros_like(blot)}


CASES = [("chelsea.png", 300, "blot", False), ("astronaut.png", 256, "all", False), ("coffee.png", 300, "all", True)]
CASES.append(("rocket.jpg", 280, "nothing", True))


@functools.cache
def wanted(name, longest, part, deblur):
    """A photo, a mask, and what Python makes of them."""
    sets = [data.open_photos(None, kind) for kind in ("test", "train")]
    photo = next(photos[photos.names.index(name)].copy() for photos in sets if name in photos.names)
    photo.thumbnail((longest, longest))
    photo = np.asarray(photo)
    if deblur:
        noise = np.random.default_rng(0).normal(0, 15, photo.shape)
        photo = (photo + noise).clip(0, 255).astype(np.uint8)
    mask = holes(*photo.shape[:2])[part]
    networks, settings = stages.load(WEIGHTS), checkpoints.read_about(WEIGHTS)["settings"]
    made = restoration.restore(photo, mask, networks, settings, deblur)
    smooth = to_pixels(laplace(from_pixels(photo), torch.from_numpy(mask)[None, None].float()))[0]
    return photo, mask, (smooth, made.inpainted, made.restored)


@pytest.fixture(scope="module", params=list(browsers.NEEDED))
def tab(request, addresses, tmp_path_factory):
    """The started demo in a browser, opened as a file; its numbers are printed when the tests are over (pytest -s)."""
    if why := browsers.missing(request.param):
        pytest.skip(why)
    folder = tmp_path_factory.mktemp(request.param)
    with browsers.opened(request.param, f"{addresses['file']}/index.html", folder) as (run, memory):
        before = memory()
        said, milliseconds = run(START)
        assert said.startswith("Press Restore"), said
        times = []
        yield run, times
        print(
            f"\n{request.param}: read and opened in {milliseconds / 1000:.1f} s, first run {times[0]:.2f} s, ", end=""
        )
        print(f"the same again {times[1]:.2f} s, memory {before:.0f} MB before and {memory():.0f} MB now")


@pytest.mark.parametrize("case", [CASES[0], *CASES], ids=lambda case: "-".join(map(str, case)))
def test_pixels_are_those_of_python(tab, case):
    run, times = tab
    photo, mask, images = wanted(*case)
    height, width = mask.shape
    under = np.where(mask[..., None], 99, photo)  # what lies under the mask is not read
    sent = [np.dstack([under, np.full_like(mask, 255, int)]).astype(np.uint8), mask.astype(np.uint8)]
    seconds, *made = run(RESTORE, *(base64.b64encode(x.tobytes()).decode() for x in sent), width, height, case[-1])
    times.append(seconds)
    for text, image in zip(made, images, strict=True):
        pixels = np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)[..., :3]
        different = abs(pixels.astype(float) - image)
        assert different[mask].sum() < 0.5 * 3 * max(1, mask.sum())  # in the holes alone, and everywhere
        assert different[~mask].sum() < 0.5 * 3 * max(1, (~mask).sum())
        assert different.max() <= 8
    if not case[-1]:
        assert (pixels[~mask] == photo[~mask]).all()


def test_a_photo_is_turned_as_its_camera_says(tab):
    image = Image.new("RGB", (64, 32), "red")
    image.paste("blue", (0, 16, 64, 32))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the left side of the picture is its top
    image.save(file := io.BytesIO(), "JPEG", exif=exif, quality=95, subsampling=0)
    width, height, red, _, blue = tab[0](OPEN, base64.b64encode(file.getvalue()).decode())
    assert (width, height) == (32, 64)
    assert blue > 200 > red


# ---- the controls, in Chromium ----

playwright = pytest.importorskip("playwright.sync_api", reason="NO CONTROL TESTED: the package playwright is missing")


@pytest.fixture(scope="module")
def browser():
    if why := browsers.missing("chromium"):
        pytest.skip(why)
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=browsers.CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, addresses):
    """Opens the demo's page, by default started; afterwards nothing may have been asked for outside."""
    contexts = []

    def opener(where="file", start=True, script="", page="index.html", **manner):
        context = browser.new_context(**{"viewport": {"width": 1100, "height": 900}, **manner})
        faults = []
        inside = (addresses[where], "data:", "blob:")
        context.on("request", lambda request: request.url.startswith(inside) or faults.append(request.url))
        tab = context.new_page()
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on("console", lambda message: message.type == "error" and faults.append(message.text))
        tab.add_init_script(script)
        tab.goto(f"{addresses[where]}/{page}")
        contexts.append((context, faults))
        if start:
            tab.click(".start button")
            tab.wait_for_selector(".stage", timeout=60_000)
            tab.wait_for_function("/^Press/.test(document.querySelector('.status').textContent)")
        return tab

    yield opener
    for context, faults in contexts:
        context.close()
        assert faults == []


def status(tab, begins="", seconds=60):
    """The line that the demo says, once it begins so."""
    tab.wait_for_function(
        "text => document.querySelector('.status').textContent.startsWith(text)", arg=begins, timeout=1000 * seconds
    )
    return tab.inner_text(".status")


def restored(tab):
    tab.click("[data-is=restore]")
    status(tab, "Restored")


def canvas(tab):
    return np.array(tab.evaluate(PIXELS)).astype(np.uint8)


PIXELS = """() => new Promise(go => requestAnimationFrame(() => requestAnimationFrame(() => {
  const canvas = document.querySelector('.cascade-demo canvas'), {width, height} = canvas;
  const {data} = canvas.getContext('2d').getImageData(0, 0, width, height);
  go(Array.from({length: height}, (_, y) => Array.from({length: width}, (_, x) => data[4 * (y * width + x)])));
})))"""


@pytest.mark.parametrize("where", ["file", "server"])
def test_it_restores_without_a_network(visit, where):
    tab = visit(where)
    tab.context.set_offline(True)
    before = canvas(tab)
    restored(tab)
    assert tab.is_checked("input[value=cascade]")
    after = canvas(tab)
    assert 0 < (before != after).mean() < 0.1
    assert "dB" in tab.inner_text("label:has(input[value=laplace])")


def test_a_notebook_holds_all_that_it_needs(visit, site):
    (site / "notebook").mkdir(exist_ok=True)
    shown = demo.show().data
    (site / "notebook" / "index.html").write_text(PAGE.format(shown))
    restored(visit(page="notebook/index.html"))
    page = render.LARGE.sub("", shown)  # in the book
    assert page.replace("640px", "480px") == (site / "_static" / "demo" / "demo.html").read_text()
    assert len(page) < 15_000


def test_nothing_is_read_before_it_is_asked_for(visit):
    tab = visit(start=False)
    assert tab.evaluate("performance.getEntriesByType('resource').length") == 0
    assert tab.evaluate("Object.keys(cascadeDemo.read).length") == 0


def test_the_page_never_freezes(visit):
    tab = visit()
    tab.evaluate("""() => {
      window.long = [];
      new PerformanceObserver(list => long.push(...list.getEntries().map(e => e.duration))).observe({type: 'longtask'});
    }""")
    for value in ("0", "12"):
        tab.fill("[data-is=sigma]", value)
        restored(tab)
    tab.wait_for_timeout(300)
    assert [duration for duration in tab.evaluate("long") if duration > 100] == []


def test_painting_by_mouse_touch_and_keyboard(visit):
    tab = visit(has_touch=True)
    tab.click("[data-is=clear]")
    assert status(tab, "0.0 %")
    box = tab.locator("canvas").bounding_box()
    tab.mouse.move(box["x"] + 50, box["y"] + 50)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 150, box["y"] + 80, steps=5)
    tab.mouse.up()
    by_mouse = float(status(tab, "").split()[0])
    assert by_mouse > 1
    tab.touchscreen.tap(box["x"] + 300, box["y"] + 200)
    by_touch = float(status(tab, "").split()[0])
    assert by_touch > by_mouse
    tab.focus("canvas")
    for key in ("ArrowLeft", "ArrowLeft", "ArrowUp", " "):
        tab.keyboard.press(key)
    by_keyboard = float(status(tab, "").split()[0])
    assert by_keyboard > by_touch
    tab.keyboard.press("z")
    assert float(status(tab, "").split()[0]) == by_touch
    tab.click("[data-is=undo]")
    assert float(status(tab, "").split()[0]) == by_mouse
    tab.click("[data-is=square]")
    assert float(status(tab, "").split()[0]) > 10


def test_the_views_the_curtain_and_the_saved_file(visit):
    tab = visit()
    assert tab.is_disabled("input[value=cascade]")
    assert tab.is_disabled("[data-is=save]")
    tab.fill("[data-is=blur]", "1")
    tab.fill("[data-is=sigma]", "20")
    restored(tab)
    shown = {}
    for view in ("input", "laplace", "generator", "cascade", "truth"):
        tab.check(f"input[value={view}]")
        shown[view] = canvas(tab)
    assert len({image.tobytes() for image in shown.values()}) == 5
    tab.check("input[value=input]")
    tab.select_option("[data-is=other]", "truth")
    for key, share in (("Home", 0), ("End", 1), ("ArrowLeft", 0.99)):
        tab.locator(".curtain").press(key)
        tab.wait_for_function(f"document.querySelector('.curtain').value === '{round(100 * share)}'")
        left = round(share * shown["truth"].shape[1]) - 2
        both = canvas(tab)
        assert (both[:, : max(0, left)] == shown["input"][:, : max(0, left)]).all()
        assert (both[:, left + 5 :] == shown["truth"][:, left + 5 :]).all()
    assert tab.get_attribute(".curtain", "aria-valuetext") == "99 % input, the rest true photo"
    with tab.expect_download() as download:
        tab.click("[data-is=save]")
    assert (np.asarray(Image.open(download.value.path()))[..., 0] == shown["cascade"]).all()


def test_the_same_seed_is_the_same_noise(visit):
    tab = visit()
    seen = []
    for seed in ("1", "2", "1"):
        tab.fill("[data-is=sigma]", "30")
        tab.fill("[data-is=seed]", seed)
        tab.wait_for_timeout(500)
        seen.append(canvas(tab))
    assert (seen[0] == seen[2]).all()
    assert (seen[0] != seen[1]).mean() > 0.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1100, 390])
def test_axe_finds_nothing_and_nothing_sticks_out(visit, scheme, width):
    tab = visit(color_scheme=scheme, viewport={"width": width, "height": 900})
    restored(tab)
    tab.select_option("[data-is=other]", "truth")
    tab.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8"))
    violations = tab.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in violations] == []
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_every_control_is_reached_by_the_keyboard(visit):
    tab = visit()
    restored(tab)
    tab.evaluate("""window.left = new Set([...document.querySelectorAll('button, select, canvas, input')]
        .filter(e => e.checkVisibility() && !e.disabled && (e.type !== 'radio' || e.checked)))""")
    for _ in range(60):
        tab.keyboard.press("Tab")
        tab.evaluate("left.delete(document.activeElement)")
    assert tab.evaluate("[...left].map(e => e.outerHTML)") == []


# ---- what fails ----


def bring(tab, path):
    tab.set_input_files("[data-is=file]", path)
    tab.wait_for_function("name => document.querySelector('.status').textContent.includes(name)", arg=path.name)
    return tab.inner_text(".status")


def test_files_that_cannot_be_taken_end_in_a_sentence(visit, tmp_path):
    tab = visit()
    name = '<img src=x onerror="window.broken=1">.png'
    (tmp_path / name).write_text("no photo")
    assert bring(tab, tmp_path / name) == f"{name} is not a photo that this browser can read."
    assert html.escape(name, quote=False) in tab.inner_html(".status")
    Image.new("L", (10_000, 10_000)).save(tmp_path / "huge.png")
    huge = "huge.png has 100 megapixels, and 60 are the most here: make a smaller copy."
    assert bring(tab, tmp_path / "huge.png") == huge
    with (tmp_path / "heavy.png").open("wb") as file:
        file.truncate(101_000_000)
    assert bring(tab, tmp_path / "heavy.png").startswith("heavy.png has 101 MB, and 100 are the most")
    Image.new("RGB", (3000, 9)).save(tmp_path / "thin.png")
    assert bring(tab, tmp_path / "thin.png") == "thin.png is too small: 16 pixels a side are the least."
    restored(tab)  # the photo before is still there
    Image.effect_noise((1500, 1000), 50).save(tmp_path / "good.png")
    tab.set_input_files("[data-is=file]", tmp_path / "good.png")
    tab.wait_for_function("document.querySelector('.cascade-demo canvas').width === 640")
    tab.click("[data-is=square]")
    restored(tab)


def test_a_second_photo_while_the_first_is_restored(visit):
    tab = visit()
    tab.click("[data-is=square]")
    tab.fill("[data-is=sigma]", "20")
    tab.click("[data-is=restore]")
    tab.select_option("[data-is=example]", "1")
    tab.wait_for_timeout(3000)
    assert not tab.inner_text(".status").startswith("Restored")
    assert tab.is_disabled("input[value=cascade]")
    restored(tab)


def test_nothing_to_do_is_said(visit):
    tab = visit()
    tab.click("[data-is=clear]")
    tab.click("[data-is=restore]")
    assert status(tab, "Paint") == "Paint over something first, or add blur or noise."
    tab.evaluate("document.querySelector('[data-is=brush]').max = 4000")
    tab.fill("[data-is=brush]", "3000")
    tab.click("canvas")
    tab.click("[data-is=restore]")
    assert status(tab, "The whole") == "The whole photo is painted over: leave some of it."


def test_a_browser_without_web_assembly(visit):
    tab = visit(start=False, script="delete window.WebAssembly")
    tab.click(".start button")
    assert "This browser has no WebAssembly, which the demo needs. On a computer," in status(tab, "This")
    assert tab.is_enabled(".start button")


def test_a_device_without_memory_and_then_with_it(visit):
    tab = visit()
    tab.evaluate("window.whole = cascadeWorker")
    broken = "self.onmessage = ({data: {id}}) => self.postMessage({id, error: 'RangeError: Out of memory'})"
    tab.evaluate(f"window.cascadeWorker = function () {{{broken}}}")
    tab.evaluate(
        "document.querySelector('.cascade-demo').cascadeDemo.made('fail', {}).catch(() => 0)"
    )  # ends the worker
    time.sleep(0.5)
    tab.click("[data-is=restore]")
    assert "too little memory: close other pages, and try again" in status(tab, "This device")
    tab.evaluate("window.cascadeWorker = whole")
    restored(tab)
