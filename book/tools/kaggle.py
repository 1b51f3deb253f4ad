"""A Sphinx extension: a button that opens a page's notebook on Kaggle, beside those for Colab and Binder.

The theme knows no Kaggle. Its address takes the notebook's address on GitHub and offers a copy of it; see
https://github.com/NeuromatchAcademy/course-content, whose badges lead there, too.
"""

from sphinx.application import Sphinx

WELCOME = "https://kaggle.com/kernels/welcome?src="


def add_button(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """Puts the button behind Colab's, with the same notebook, on each page that has one."""
    groups = [group for group in context.get("header_buttons", []) if group.get("label") == "launch-buttons"]
    for buttons in (group["buttons"] for group in groups):
        for place, button in enumerate(buttons):
            if button["text"] == "Colab":
                address = "https://github.com/" + button["url"].partition("/github/")[2]
                # a notebook on Kaggle starts without a network, and the first cell installs the package
                tooltip = "Launch on Kaggle (switch Internet on in its settings)"
                kaggle = {"text": "Kaggle", "tooltip": tooltip, "icon": "fab fa-kaggle", "url": WELCOME + address}
                buttons.insert(place + 1, {"type": "link", **kaggle})
                break


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", add_button, priority=502)  # after the theme's own, which have 501
    return {"parallel_read_safe": True, "parallel_write_safe": True}
