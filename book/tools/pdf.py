"""Prints the built pages into one PDF file with a bookmark for each page, and links it from the first one: `make pdf`.

    python book/tools/pdf.py --html _build/html  # writes _build/html/book.pdf

A Chromium or Chrome that is installed prints them, solutions unfolded. A link from one page to another becomes a jump
within the file; a path of this machine never gets into it.
"""

import io
import os
import re
import shutil
from pathlib import Path

from command import Parser, run
from inputs import toc_entries
from playwright.sync_api import Page, sync_playwright
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, DictionaryObject, NameObject

TOC = Path(__file__).resolve().parents[1] / "_toc.yml"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SETTLE = """async () => {
    document.querySelectorAll("details").forEach(each => each.open = true);
    const here = [...document.querySelectorAll("a[href]")].filter(a => a.pathname === location.pathname);
    here.forEach(a => a.removeAttribute("href"));
    document.querySelectorAll("img[loading]").forEach(img => img.loading = "eager");
    await window.MathJax?.startup?.promise;
    await Promise.all([...document.images].map(img => img.decode().catch(() => null)));
    return !document.querySelector(".math") || !!document.querySelector("mjx-container");
}"""
PAPER = """
    pre { white-space: pre-wrap !important }
    #jb-print-toc { display: none }
    h1 { margin-bottom: 1em !important }
    figure, svg[role=img] { break-inside: avoid }
"""
FOOTER = (
    '<div style="width: 100%; font-size: 8px; text-align: center; font-family: sans-serif">'
    '<span class="title"></span> · <span class="pageNumber"></span></div>'
)


def printed(page: Page, path: Path) -> tuple[str, bytes]:
    """A page's heading and the page as PDF; raises ValueError if its formulas are still plain TeX."""
    page.goto(path.resolve().as_uri(), wait_until="load")
    page.add_style_tag(content=PAPER)  # no line runs over the paper's edge, and the bookmarks are the contents
    if not page.evaluate(SETTLE):
        raise ValueError(f"{path}: its formulas were not rendered")
    heading = "h1 => h1.firstChild.nodeType === 3 ? h1.firstChild.data : h1.innerText"
    title = page.locator("h1").first.evaluate(heading).strip()
    margins = dict.fromkeys(("top", "bottom", "left", "right"), "16mm")
    around = {"display_header_footer": True, "header_template": "<i></i>", "footer_template": FOOTER}
    return title, page.pdf(format="A4", scale=0.75, margin=margins, **around)


def joined(parts: dict[Path, tuple[str, bytes]]) -> PdfWriter:
    """One file from the printed pages, by the path of each, in their order."""
    book, first = PdfWriter(), {}
    for path, (heading, pdf) in parts.items():
        first[path.resolve().as_uri()] = len(book.pages)
        book.append(PdfReader(io.BytesIO(pdf)), outline_item=heading, import_outline=False)
    for page in book.pages:
        kept = ArrayObject()
        for annotation in page.get("/Annots", ()):
            link = annotation.get_object()
            address = str(link.get("/A", {}).get("/URI", ""))
            target = first.get(address.split("#")[0])
            if target is not None:
                place = ArrayObject([book.pages[target].indirect_reference, NameObject("/Fit")])
                jump = {NameObject("/S"): NameObject("/GoTo"), NameObject("/D"): place}
                link[NameObject("/A")] = DictionaryObject(jump)
            if target is not None or not address.startswith("file:"):
                kept.append(annotation)
        page[NameObject("/Annots")] = kept
    book.compress_identical_objects()
    return book


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
        page = chromium.new_page(color_scheme="light")
        book = joined({path: printed(page, path) for path in pages})
        chromium.close()
    book.write(html / "book.new")
    os.replace(html / "book.new", html / "book.pdf")  # half a file never stands where a reader looks
    link_from(html / "index.html")
    print(f"The PDF: {html / 'book.pdf'}, {len(book.pages)} pages")


if __name__ == "__main__":
    run(main)
