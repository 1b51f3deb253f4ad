"""Prints the built pages into one tagged PDF file with an outline, and links it from the first one: `make pdf`.

    python book/tools/pdf.py --html _build/html  # writes _build/html/book.pdf

All pages become one, which a Chromium or Chrome that is installed prints, solutions unfolded: only so does the file get
one structure for screen readers and one outline, and a link from page to page becomes a jump to its place in the file.
Files that are printed apart and joined would lose both. A path of this machine never gets into it.
"""

import io
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from urllib.parse import unquote, urlparse
from urllib.request import url2pathname

import pikepdf
import yaml
from command import Parser, run
from inputs import toc_entries
from PIL import Image
from playwright.sync_api import Page, Route, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
TOC = ROOT / "book" / "_toc.yml"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SHARES = (0.7, 0.6, 0.5)  # of a picture's size; the first gives 180 dots an inch of paper
QUALITY = 80  # of JPEG
BUDGET = 8_000_000  # bytes for all pictures, beside 6 MB of text and structure

# One page's heading and content. Its ids get its name in front, so that two pages may have the same; links to pages of
# the book become links within the one page, and links to other files of the folder are plain text.
TAKE = """async (names) => {
    await window.MathJax?.startup?.promise;
    const formulas = !document.querySelector(".math") || !!document.querySelector("mjx-container");
    const content = document.querySelector("article.bd-article") ?? document.body;
    const folder = new URL(".", location).href, own = location.href.split("#")[0].slice(folder.length);
    const place = (name, hash) => names[name] + (hash ? "." + decodeURIComponent(hash.slice(1)) : "");
    content.querySelectorAll(".headerlink, script").forEach(e => e.remove());
    content.querySelectorAll("details").forEach(e => e.open = true);
    content.querySelectorAll("img").forEach(e => { e.loading = "eager"; e.src = e.src });
    for (const a of content.querySelectorAll("a[href]")) {
        const url = URL.parse(a.getAttribute("href"), location);
        const name = url?.href.startsWith(folder) && url.pathname.split("/").at(-1);
        if (name in names) a.setAttribute("href", "#" + place(name, url.hash));
        else if (!url || url.protocol === "file:") a.removeAttribute("href");
    }
    for (const e of content.querySelectorAll("[id]"))
        if (!e.closest("svg, mjx-container, table.dataframe")) e.id = place(own, "#" + e.id);
    const h1 = content.querySelector("h1"), first = h1.firstChild;
    const heading = first.nodeType === 3 ? first.data : h1.innerText;
    return {formulas, heading: heading.trim(), html: content.innerHTML,
            styles: [...document.querySelectorAll("#MJX-SVG-styles")].map(e => e.textContent).join("")};
}"""
FILL = """async ([title, html]) => {
    document.title = title;
    document.body.innerHTML = html;
    await Promise.all([...document.images].map(image => image.decode().catch(() => null)));
    const headings = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].filter(e => e.checkVisibility());
    return headings.map(e => e.innerText.replace(/\\s+/g, " ").trim());
}"""
PAPER = """
    @page { size: A4; margin: 16mm; @bottom-center { font: 8px sans-serif; color: #444 } }
    body { background: white; margin: 0 }
    /* Each would become a picture. The theme calls some of its own important; an id in the selector outweighs them. */
    :not(#none), :not(#none)::before, :not(#none)::after { border-radius: 0 !important; box-shadow: none !important }
    pre { white-space: pre-wrap !important }
    h1 { margin-bottom: 1em !important }
    figure, svg[role=img] { break-inside: avoid }
    .printed a.alone, .printed .math { overflow: visible }
    .printed a.alone img { min-width: 0 }
"""


def jpeg(path: Path, share: float) -> bytes:
    """A picture on white as JPEG, smaller by a share; Chromium would store any other format without loss."""
    with Image.open(path) as image:
        flat = Image.new("RGB", image.size, "white")
        flat.paste(image, mask=image.getchannel("A") if "A" in image.getbands() else None)
    smaller = flat.resize([max(1, round(share * side)) for side in flat.size], Image.Resampling.LANCZOS)
    smaller.save(file := io.BytesIO(), "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


def fitting(paths: Iterable[Path], budget: int = BUDGET) -> dict[Path, bytes]:
    """The pictures as JPEG, of the largest of `SHARES` with which all of them fit a budget, else of the smallest."""
    paths = [path.resolve() for path in paths]
    for share in SHARES:
        made = {path: jpeg(path, share) for path in paths}
        if sum(map(len, made.values())) <= budget:
            break
    return made


def one_page(page: Page, paths: Iterable[Path]) -> str:
    """The pages, in their order, as one page of HTML; raises ValueError if formulas of one are still plain TeX."""
    names = {path.name: path.stem for path in paths}
    parts, footers, styles = [], [], ""
    for path in paths:
        page.goto(path.resolve().as_uri(), wait_until="load")
        taken = page.evaluate(TAKE, names)
        if not taken["formulas"]:
            raise ValueError(f"{path}: its formulas were not rendered")
        styles = taken["styles"] or styles
        sheet, text = f"sheet{len(parts)}", taken["heading"].replace("\\", "").replace('"', "\\22 ")
        footers.append(f'@page {sheet} {{ @bottom-center {{ content: "{text} · " counter(page) }} }}')
        start = f'<div class="printed bd-article" id="{escape(path.stem)}" style="page: {sheet}">'
        parts.append(f"{start}{taken['html']}</div>")
    return f"<style>{styles}{PAPER}{' '.join(footers)}</style>{''.join(parts)}"


def printed(page: Page, paths: list[Path], title: str, author: str) -> pikepdf.Pdf:
    """The pages as one tagged PDF with an outline, a title and an author. Raises as `one_page`."""
    html, folder = one_page(page, paths), paths[0].parent
    pictures = fitting(path for end in ("webp", "png") for path in folder.glob(f"**/*.{end}"))

    def light(route: Route) -> None:
        body = pictures[Path(url2pathname(unquote(urlparse(route.request.url).path))).resolve()]
        route.fulfill(body=body, content_type="image/jpeg")

    page.route(re.compile(r"\.(webp|png)$"), light)
    page.goto(paths[0].resolve().as_uri(), wait_until="load")  # its style sheets and its folder serve for all
    headings = page.evaluate(FILL, [title, html])
    pdf = page.pdf(scale=0.75, prefer_css_page_size=True, tagged=True, outline=True)
    book = pikepdf.open(io.BytesIO(pdf))
    with book.open_outline() as outline:
        entries = list(in_order(outline.root))
        if len(entries) != len(headings):
            raise ValueError(f"the PDF's outline has {len(entries)} entries for {len(headings)} headings")
        for entry, heading in zip(entries, headings, strict=True):
            entry.title = heading  # Chromium's own lacks the space where a heading goes on in another line
    book.docinfo["/Title"], book.docinfo["/Author"] = title, author
    book.Root.ViewerPreferences = pikepdf.Dictionary(DisplayDocTitle=True)
    return book


def in_order(entries: Iterable[pikepdf.OutlineItem]) -> Iterator[pikepdf.OutlineItem]:
    """The entries of an outline from top to bottom, each before those below it."""
    for entry in entries:
        yield entry
        yield from in_order(entry.children)


def save(book: pikepdf.Pdf, path: Path) -> None:
    """Writes a PDF with its small objects packed: the structure for screen readers has some hundred a page."""
    book.save(path, object_stream_mode=pikepdf.ObjectStreamMode.generate, compress_streams=True)


def named() -> tuple[str, str]:
    """The book's title and author."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    return config["title"], config["author"]


def link_from(index: Path) -> None:
    """Turns the first page's words on how to make the file into a link to it."""
    link = '<a id="book-pdf" href="book.pdf">the whole book as a PDF file</a>'
    text, count = re.subn(r'<(em|a) id="book-pdf".*?</\1>', link, index.read_text("utf-8"), flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{index} has {count} places for the link to the PDF; it needs one")
    index.write_text(text, "utf-8")


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--html", type=Path, required=True, help="the folder of the built pages")
    html = parser.parse_args().html
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise ValueError(f"there is no browser to print with; install one of {', '.join(BROWSERS)}")
    pages = [html / f"{entry}.html" for entry in toc_entries(TOC)]
    missing = [path.name for path in pages if not path.exists()]
    if missing:
        raise ValueError(f"{html} lacks {', '.join(missing)}; run `make book` first")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        book = printed(chromium.new_page(color_scheme="light"), pages, *named())
        chromium.close()
    save(book, html / "book.new")
    os.replace(html / "book.new", html / "book.pdf")  # half a file never stands where a reader looks
    link_from(html / "index.html")
    size = (html / "book.pdf").stat().st_size / 1e6
    print(f"The PDF: {html / 'book.pdf'}, {len(book.pages)} pages, {size:.1f} MB")


if __name__ == "__main__":
    run(main)
