"""The built pages in a real browser, as a reader has them: from the folder and from a plain server, wide and narrow,
light and dark, with the network cut off. Skipped, and it says so, where there is no Chromium or no built book.

    make book pages-test
"""

import functools
import json
import re
from importlib.resources import files

import pytest
import yaml

from . import browsers
from .conftest import ROOT

HTML = ROOT / "_build" / "html"
PAGES = sorted(path.stem for path in HTML.glob("*.html"))
NOTEBOOKS = sorted(path.stem for path in (ROOT / "book").glob("*.ipynb"))
PLACES = {  # where a page is read: address, width in px, color scheme
    "wide light": ("file", 1280, "light"),
    "wide dark": ("server", 1280, "dark"),
    "phone light": ("server", 390, "light"),
    "phone dark": ("file", 390, "dark"),
}
LIMIT = 3_000_000  # bytes of a page and its pictures

playwright = pytest.importorskip("playwright.sync_api", reason="NO BROWSER TEST RAN: the package playwright is missing")
pytestmark = [
    pytest.mark.skipif(bool(browsers.missing("chromium")), reason=f"NO PAGE TESTED: {browsers.missing('chromium')}"),
    pytest.mark.skipif(not PAGES, reason="NO BROWSER TEST RAN: the book is not built (make book)"),
]


@pytest.fixture(scope="module")
def addresses():
    with browsers.serving(functools.partial(browsers.Quiet, directory=HTML.resolve())) as address:
        yield {"file": HTML.resolve().as_uri(), "server": f"http://{address}"}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=browsers.CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, addresses):
    """Opens a page at a place and gives it with all that went wrong, which must be nothing when the test is over."""
    opened = []

    def opener(page: str, place: str = "wide light"):
        where, width, scheme = PLACES[place]
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.set_default_timeout(1000 * browsers.PATIENCE)
        faults = []

        def watch(route):
            if route.request.url.startswith((addresses[where], "data:")):
                return route.continue_()
            faults.append(f"request outside: {route.request.url}")
            return route.abort()

        context.route("**/*", watch)
        tab = context.new_page()
        tab.on("console", lambda message: message.type == "error" and faults.append(f"console: {message.text}"))
        tab.on("pageerror", lambda error: faults.append(f"error: {error}"))
        tab.on("requestfailed", lambda request: faults.append(f"failed: {request.url}"))
        tab.goto(f"{addresses[where]}/{page}.html")
        tab.evaluate("window.MathJax?.startup.promise")
        opened.append((context, faults))
        return tab

    yield opener
    for context, faults in opened:
        context.close()
        assert faults == []


def all_places(function):
    return pytest.mark.parametrize("place", PLACES)(pytest.mark.parametrize("page", PAGES)(function))


@all_places
def test_the_page_is_whole(visit, page, place):
    """Formulas are set, pictures are there and described, and nothing sticks out."""
    tab = visit(page, place)
    sources = tab.evaluate("document.querySelectorAll('article .math').length")
    assert tab.evaluate("document.querySelectorAll('article .math mjx-container').length") == sources
    assert tab.evaluate("document.querySelectorAll('mjx-merror').length") == 0
    images = tab.evaluate("[...document.images].map(i => [i.alt.trim(), i.complete && i.naturalWidth, i.src])")
    assert [src for alt, size, src in images if not alt or "_images/" in alt or not size] == []
    assert tab.evaluate(SQUEEZED) == []
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    assert tab.evaluate(STICKS_OUT) == []
    scheme = PLACES[place][2]
    assert tab.evaluate("document.documentElement.dataset.theme") == scheme


# Pictures that are shown in another shape than their own.
SQUEEZED = """[...document.images].filter(i => i.width && i.height &&
  Math.abs(i.naturalWidth * i.height / (i.naturalHeight * i.width) - 1) > 0.03).map(i => i.outerHTML.slice(-200))"""

# What of the text lies beyond the right edge and in nothing that scrolls by itself.
STICKS_OUT = """() => {
  const scrolls = e => e && e.tagName !== 'ARTICLE' &&
    (['auto', 'scroll'].includes(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  return [...document.querySelectorAll('article *')]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 15 && !scrolls(e))
    .map(e => e.outerHTML.slice(0, 200))
}"""


@pytest.mark.parametrize("place", ["wide light", "phone dark"])  # each width and each scheme; axe takes its time
@pytest.mark.parametrize("page", PAGES)
def test_axe_finds_no_serious_fault(visit, page, place):
    tab = visit(page, place)
    tab.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8"))
    violations = tab.evaluate("axe.run(document, {resultTypes: ['violations'], preload: false})")["violations"]
    serious = [v for v in violations if v["impact"] in ("serious", "critical")]
    assert [(v["id"], v["nodes"][0]["html"], v["nodes"][0]["failureSummary"]) for v in serious] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_control_is_reached_by_the_keyboard(visit, page):
    tab = visit(page)
    controls = """[...document.querySelectorAll('a[href], button, input, select, textarea, summary')]
        .filter(e => e.checkVisibility({visibilityProperty: true}) && e.getBoundingClientRect().width > 1)"""
    tab.evaluate(f"window.left = new Set({controls})")
    for _ in range(1000):
        tab.keyboard.press("Tab")
        if not tab.evaluate("left.delete(document.activeElement), left.size"):
            break
    assert tab.evaluate("[...left].map(e => e.outerHTML.slice(0, 200))") == []


@pytest.mark.parametrize("place", ["wide light", "phone light"])
@pytest.mark.parametrize("page", PAGES)
def test_curtains_and_sliders_move(visit, page, place):
    tab = visit(page, place)
    for curtain in tab.locator(".cascade-play .curtain").all():
        move_and_watch(tab, curtain.locator("input"), lambda c=curtain: c.locator("img").nth(1).evaluate(CLIP))
    for play in tab.locator(".cascade-play:not(:has(.curtain))").all():
        for slider in play.locator("input").all():
            move_and_watch(tab, slider, lambda p=play: p.locator("img:visible").get_attribute("src"))


CLIP = "image => getComputedStyle(image).clipPath"


def move_and_watch(tab, slider, look) -> None:
    """By mouse and by keyboard: to either end, where the picture must differ, and what is said, too."""
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    height, seen, said = box["y"] + box["height"] / 2, [], []
    tab.mouse.move(box["x"] + box["width"] / 2, height)
    tab.mouse.down()
    for share in (0.02, 0.98):
        tab.mouse.move(box["x"] + share * box["width"], height, steps=5)
        seen.append(look())
        said.append(slider.get_attribute("aria-valuetext"))
    tab.mouse.up()
    assert len(set(seen)) == len(set(said)) == 2, "dragging moved nothing"
    for key in ("Home", "End", "ArrowLeft"):
        slider.press(key)
        seen.append(look())
    # of two values, the left one is the first again
    values = int(slider.get_attribute("max")) - int(slider.get_attribute("min")) + 1
    assert len(set(seen[2:])) == min(3, values), "the keyboard moved nothing"


def test_the_book_has_a_curtain_and_sliders(visit):
    assert visit("index").locator(".cascade-play .curtain").count() == 1
    assert visit("01_data_synthesis").locator(".cascade-play input").count() == 3
    assert visit("03_stage1").locator(".cascade-play input").count() == 1


@pytest.mark.parametrize("place", ["wide dark", "phone dark"])  # from a server and from the folder
@pytest.mark.parametrize("page", ["index", "11_your_photo"])
def test_the_demo_runs(visit, page, place):
    tab = visit(page, place)
    tab.click(".cascade-demo .start button")
    tab.click(".cascade-demo [data-is=restore]")
    tab.wait_for_selector(".cascade-demo input[value=cascade]:checked")
    assert tab.evaluate(STICKS_OUT) == []


@pytest.mark.parametrize("place", PLACES)
def test_search_stands_there_once_and_finds(visit, place):
    tab = visit("02_networks", place)
    assert tab.locator("button[aria-label=Search]:visible").count() == 1
    tab.keyboard.press("Control+K")
    field = tab.locator("input[type=search]:visible").first
    field.fill("Wasserstein")
    field.press("Enter")
    tab.wait_for_selector("#search-results li a[href*='04_stage2.html']")  # the results come one after the other


@pytest.mark.parametrize("place", ["wide light", "phone dark"])
@pytest.mark.parametrize("page", PAGES)
def test_the_frame(visit, page, place):
    """Headings grow no heavier with their level, captions have the weight of text, photos are as they are, formulas
    scroll from their left end, and a figure's letters stay legible."""
    tab = visit(page, place)
    weights = tab.evaluate(WEIGHTS)
    assert weights == sorted(weights, reverse=True)
    captions = "[...document.querySelectorAll('article figcaption p')].map(e => getComputedStyle(e).fontWeight)"
    assert set(tab.evaluate(captions)) <= {"400"}
    filters = "[...document.querySelectorAll('article img')].map(e => getComputedStyle(e).filter)"
    assert set(tab.evaluate(filters)) <= {"none"}
    assert tab.evaluate(CUT_OFF) == []
    assert [share for share in tab.evaluate(SHRUNK) if share < 0.74] == []


# The weight of the first heading of each level.
WEIGHTS = """['h1', 'h2', 'h3', 'h4'].map(level => document.querySelector('article ' + level)).filter(e => e)
  .map(e => Number(getComputedStyle(e).fontWeight))"""

# Formulas that begin left of what can be scrolled to, or whose end cannot be reached.
CUT_OFF = """[...document.querySelectorAll('article div.math mjx-container')].filter(box => {
  box.scrollLeft = -9999;
  const [outer, inner] = [box.parentElement, box.querySelector('svg')].map(e => e.getBoundingClientRect());
  const begins = inner.left >= outer.left - 1;
  box.scrollLeft = 9999;
  const ends = inner.width <= 1 || box.querySelector('svg').getBoundingClientRect().right <= outer.right + 1;
  return !begins || !ends;
}).map(box => box.textContent.slice(0, 60))"""

# How large a figure is shown, as a share of its own size.
SHRUNK = """[...document.querySelectorAll('article a.alone img')].map(i => i.clientWidth / i.getAttribute('width'))"""


@pytest.mark.parametrize("page", PAGES)
def test_colab_kaggle_and_download_point_at_the_notebook(visit, page):
    tab = visit(page)
    colab = tab.locator("a[href*='colab.research.google.com']:not(.badges *)")  # the first page has links of its own
    links = [link.get_attribute("href") for link in colab.all()]
    repository = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]
    name = repository["url"].removeprefix("https://github.com/")
    address = f"https://colab.research.google.com/github/{name}/blob/{repository['branch']}/book/{page}.ipynb"
    assert links == ([address] if page in NOTEBOOKS else [])
    kaggle = [link.get_attribute("href") for link in tab.locator("a[href*='kaggle.com/kernels']").all()]
    source = f"https://github.com/{name}/blob/{repository['branch']}/book/{page}.ipynb"
    assert kaggle == ([f"https://kaggle.com/kernels/welcome?src={source}"] if page in NOTEBOOKS else [])
    if page in NOTEBOOKS:
        download = tab.locator("a.btn-download-source-button").get_attribute("href")
        assert download == f"_sources/{page}.ipynb"
        source = json.loads((ROOT / "book" / f"{page}.ipynb").read_text())
        begin, wanted = ("".join(x["cells"][0]["source"]) for x in (json.loads((HTML / download).read_text()), source))
        assert re.fullmatch(re.escape(wanted) + r"\n\n\*For this page it took [^*\n]+ thread(s)?\.[^*\n]*\*", begin)


@pytest.mark.parametrize("page", PAGES)
def test_the_page_is_light_and_its_figures_are_sharp(visit, page):
    text = (HTML / f"{page}.html").read_text("utf-8")
    pictures = {HTML / src for src in re.findall(r'<img [^>]*src="(_images/[^"]+)"', text)}
    assert len(text.encode()) + sum(path.stat().st_size for path in pictures) < LIMIT
    tab = visit(page)
    figures = "[...document.querySelectorAll('.cell_output img[src$=webp]')].map(i => i.naturalWidth / i.width)"
    assert [dots for dots in tab.evaluate(figures) if dots < 1.9] == []
