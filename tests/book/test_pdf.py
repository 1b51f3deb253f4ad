"""The pages as one PDF: bookmarks, jumps, solutions unfolded, and no path of this machine."""

import shutil

import pytest

pytest.importorskip("playwright.sync_api", reason="NOT TESTED: Playwright, which prints the PDF, is not installed")
pdf = pytest.importorskip("pdf", reason="NOT TESTED: pypdf, which joins the PDF, is not installed")
from playwright.sync_api import sync_playwright  # noqa: E402

from .conftest import ROOT  # noqa: E402

BROWSER = next(filter(None, map(shutil.which, pdf.BROWSERS)), None)
PAGE = "<html><head><title>{title}</title></head><body><h1>{title}<a href='#x'>#</a></h1>{body}</body></html>"
BODIES = {
    "one": "<p>See <a href='two.html#end'>two</a>, <a href='https://example.org/'>outside</a>, "
    "<a href='lost.html'>lost</a></p><details><summary>solution</summary><p>forty-two</p></details>",
    "two": "<p>the second page</p>",
}


@pytest.fixture
def folder(tmp_path):
    for name, body in BODIES.items():
        (tmp_path / f"{name}.html").write_text(PAGE.format(title=f"Page {name}", body=body))
    return tmp_path


@pytest.fixture(scope="module")
def page():
    if BROWSER is None:
        pytest.skip(f"NOT TESTED: there is none of {', '.join(pdf.BROWSERS)} to print with")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield browser.new_page()
        browser.close()


def test_pages_become_one_file(page, folder, tmp_path):
    paths = [folder / f"{name}.html" for name in BODIES]
    book = pdf.joined({path: pdf.printed(page, path) for path in paths})
    book.write(tmp_path / "book.pdf")
    assert str(folder).encode() not in (tmp_path / "book.pdf").read_bytes()
    read = pdf.PdfReader(tmp_path / "book.pdf")
    assert [entry.title for entry in read.outline] == ["Page one", "Page two"]
    assert [read.get_destination_page_number(entry) for entry in read.outline] == [0, 1]
    assert "forty-two" in read.pages[0].extract_text()
    links = [annotation.get_object()["/A"] for annotation in read.pages[0]["/Annots"]]
    assert [link.get("/URI") for link in links] == [None, "https://example.org/"]
    assert links[0]["/D"][0].idnum == read.pages[1].indirect_reference.idnum


def test_formulas_that_are_still_tex_are_a_fault(page, folder):
    (folder / "two.html").write_text(PAGE.format(title="two", body="<span class='math'>\\(x\\)</span>"))
    with pytest.raises(ValueError, match="two.html: its formulas were not rendered"):
        pdf.printed(page, folder / "two.html")


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
