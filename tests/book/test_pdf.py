"""The pages as one PDF: tagged, with outline, title and author, jumps, solutions unfolded, light, and no path of this
machine."""

import io
import shutil

import pytest
from PIL import Image

pytest.importorskip("playwright.sync_api", reason="NOT TESTED: Playwright, which prints the PDF, is not installed")
pikepdf = pytest.importorskip("pikepdf", reason="NOT TESTED: pikepdf, which packs the PDF, is not installed")
import pdf  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

from .conftest import ROOT  # noqa: E402

BROWSER = next(filter(None, map(shutil.which, pdf.BROWSERS)), None)
BOOK = ROOT / "_build" / "html" / "book.pdf"
LIMIT = 15_000_000  # bytes of the whole book
PAGE = (
    "<html lang=en><head><title>{title}</title></head><body><h1>{title}<a class=headerlink href='#x'>#</a></h1>{body}"
)
BODIES = {
    "one": "<p>See <a href='two.html#end'>two</a>, <a href='https://example.org/'>outside</a>, "
    "<a href='lost.html'>lost</a></p><details><summary>solution</summary><h2>forty-two</h2></details>"
    "<img src='noise.webp' alt='a photo'>",
    "two": "<p><a href='#end'>below</a></p><p style='margin-top: 3000px' id='end'><a href='one.html'>back</a></p>",
}


@pytest.fixture
def folder(tmp_path):
    for name, body in BODIES.items():
        (tmp_path / f"{name}.html").write_text(PAGE.format(title=f"Page {name}", body=body))
    Image.effect_noise((600, 400), 60).convert("RGB").save(tmp_path / "noise.webp", quality=80)
    return tmp_path


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        pytest.skip(f"NOT TESTED: there is none of {', '.join(pdf.BROWSERS)} to print with")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    page = browser.new_page()
    yield page
    page.close()


@pytest.fixture
def book(page, folder):
    """Two pages as one file, saved and read again."""
    pages = [folder / f"{name}.html" for name in BODIES]
    pdf.save(pdf.printed(page, pages, "A book", "its authors"), folder / "book.pdf")
    with pikepdf.open(folder / "book.pdf") as read:
        yield read


def structure(element, found=None) -> list[str]:
    """The kinds of all elements of a PDF's structure tree."""
    found = [] if found is None else found
    if isinstance(element, pikepdf.Array):
        for child in element:
            structure(child, found)
    elif isinstance(element, pikepdf.Dictionary):
        found.extend(str(element.S)[1:] for _ in range("/S" in element))
        structure(element.get("/K"), found)
    return found


def check_frame(book, title: str, author: str) -> None:
    assert bool(book.Root.MarkInfo.Marked)
    assert (str(book.docinfo["/Title"]), str(book.docinfo["/Author"])) == (title, author)
    assert bool(book.Root.ViewerPreferences.DisplayDocTitle)
    assert str(book.Root.Lang).startswith("en")


def outline_of(book) -> list[str]:
    with book.open_outline() as outline:
        return [entry.title for entry in pdf.in_order(outline.root)]


def links_of(book) -> list:
    notes = [note for page in book.pages for note in page.get("/Annots", [])]
    return [note.get("/Dest", note.get("/A")) for note in notes if note.Subtype == "/Link"]


def test_is_tagged_and_named(book):
    check_frame(book, "A book", "its authors")
    kinds = structure(book.Root.StructTreeRoot)
    assert kinds.count("H1") == 2
    assert {"P", "Figure", "Link", "H2"} <= set(kinds)


def test_the_outline_holds_each_heading_and_the_solution_is_unfolded(book):
    assert outline_of(book) == ["Page one", "forty-two", "Page two"]  # a heading that is folded away would be missing


def test_links_lead_to_their_place(book, folder):
    """To the page and the line; one to a file of the folder is none. The path of the folder is nowhere."""
    assert str(folder).encode() not in (folder / "book.pdf").read_bytes()
    with pikepdf.open(folder / "book.pdf") as read:
        read.save(flat := io.BytesIO(), stream_decode_level=pikepdf.StreamDecodeLevel.generalized, qdf=True)
    assert str(folder).encode() not in flat.getvalue()
    links = links_of(book)
    outside = [str(link.URI) for link in links if isinstance(link, pikepdf.Dictionary)]
    assert outside == ["https://example.org/"]
    inside = [str(link) for link in links if not isinstance(link, pikepdf.Dictionary)]
    assert inside == ["/two.end", "/two.end", "/one"]
    pages = [[page.obj.objgen for page in book.pages].index(book.Root.Dests[name][0].objgen) for name in inside]
    assert pages == [len(book.pages) - 1] * 2 + [0]
    assert len(book.pages) > 2, "the place is not on the first page of its chapter"


def test_each_page_has_its_name_at_the_foot(page, folder):
    html = pdf.one_page(page, [folder / "one.html", folder / "two.html"])
    assert 'content: "Page one \N{MIDDLE DOT} " counter(page)' in html
    assert 'content: "Page two \N{MIDDLE DOT} " counter(page)' in html


def test_photos_are_jpeg(book):
    images = [image for page in book.pages for image in page.get_images().values()]
    assert [str(image.Filter) for image in images] == ["/DCTDecode"]
    assert (int(images[0].Width), int(images[0].Height)) == (420, 280)


def test_pictures_become_smaller_until_they_fit(folder):
    photo = folder / "noise.webp"
    (large,), (medium,), (small,) = (pdf.fitting([photo], budget).values() for budget in (10**6, 40_000, 0))
    sizes = [Image.open(io.BytesIO(data)).size for data in (large, medium, small)]
    assert sizes[0] == (420, 280)
    assert sizes[2] == (300, 200)
    assert len(medium) <= 40_000 < len(large)
    Image.new("RGBA", (10, 10), (255, 0, 0, 0)).save(folder / "clear.png")
    with Image.open(io.BytesIO(pdf.jpeg(folder / "clear.png", 1))) as image:
        assert image.getpixel((5, 5)) == (255, 255, 255)


def test_formulas_that_are_still_tex_are_a_fault(page, folder):
    (folder / "two.html").write_text(PAGE.format(title="two", body="<span class='math'>\\(x\\)</span>"))
    with pytest.raises(ValueError, match="two.html: its formulas were not rendered"):
        pdf.one_page(page, [folder / "one.html", folder / "two.html"])


@pytest.mark.skipif(not BOOK.exists(), reason="NOT TESTED: the book's PDF is not made (make book pdf)")
def test_the_book_is_light_tagged_and_named():
    assert BOOK.stat().st_size <= LIMIT
    with pikepdf.open(BOOK) as book:
        check_frame(book, *pdf.named())
        outline = outline_of(book)
        assert len(outline) > len(pdf.toc_entries(pdf.TOC))
        assert all(outline)
        kinds = structure(book.Root.StructTreeRoot)
        assert kinds.count("H1") == len(pdf.toc_entries(pdf.TOC))
        assert "Table" in kinds


def test_the_first_page_has_one_place_for_the_link(tmp_path):
    source, index = (ROOT / "book" / "index.md").read_text(), tmp_path / "index.html"
    assert source.count('<em id="book-pdf">') == 1
    index.write_text('<p><em id="book-pdf"><code>make <span>pdf</span></code> prints it</em>.</p>')
    for _ in range(2):  # also when the link is there already
        pdf.link_from(index)
        assert index.read_text() == '<p><a id="book-pdf" href="book.pdf">the whole book as a PDF file</a>.</p>'
    index.write_text("<p></p>")
    with pytest.raises(ValueError, match="0 places for the link"):
        pdf.link_from(index)


def test_missing_pages_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["pdf.py", "--html", str(tmp_path)])
    monkeypatch.setattr(pdf.shutil, "which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(ValueError, match="lacks index.html.*; run `make book` first"):
        pdf.main()
    monkeypatch.setattr(pdf.shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="no browser to print with; install one of chromium"):
        pdf.main()
