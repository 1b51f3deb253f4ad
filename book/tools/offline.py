"""A Sphinx extension: the pages ask nothing of the network, and what other extensions leave unfinished is mended.

MathJax comes from a pinned package and is one file that holds its fonts as outlines, so formulas are set from the
folder alone, also when a page is opened as a file. Thebe, which would fetch a program and a kernel, is left out.
"""

import re
from importlib.metadata import files

from sphinx.application import Sphinx

MATHJAX = "tex-svg-full.js"


def mathjax() -> str:
    """Where the package `sphinx-mathjax-offline` has its file; the other 20 MB of the package stay where they are."""
    return str(next(path for path in files("sphinx-mathjax-offline") if path.name == MATHJAX).locate())


def without_thebe(app: Sphinx) -> None:
    """Takes back all that `sphinx_thebe` has asked for; Jupyter Book loads it always and has no setting against it."""
    asked = [listener for group in app.events.listeners.values() for listener in group]
    for listener in asked:
        if listener.handler.__module__ == "sphinx_thebe":
            app.disconnect(listener.id)
    app.registry.css_files[:] = [file for file in app.registry.css_files if file[0] != "sphinx-thebe.css"]


def mend(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """What a screen reader would stumble over: a list of citations says that it is a list but its children say that
    they are none; the parameters of a signature are a list of definitions without a term. Now all of them are plain."""
    body = context.get("body", "").replace('role="list" class="citation-list"', 'class="citation-list"')
    context["body"] = re.sub(
        r"<dl>\n((?:<dd>.*</dd>\n)+)</dl>",
        lambda parameters: re.sub("<dd>(.*)</dd>", r'<span class="parameter-line">\1</span>', parameters[1]),
        body,
    )


# The search shows a piece of each page that it finds, which a browser may not read when the book is opened as a file.
PLAIN_SEARCH = "if (location.protocol === 'file:') DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false"


def setup(app: Sphinx) -> dict[str, bool]:
    app.config.html_static_path.append(mathjax())
    app.config.mathjax_path = MATHJAX
    without_thebe(app)
    app.add_js_file(None, body=PLAIN_SEARCH)
    app.connect("html-page-context", mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
