"""Changes the repository's address and branch wherever they are written.

    python book/tools/address.py https://github.com/NAME/REPO [branch]

They stand in _config.yml, from which the pages' buttons are made. Everything else that names them is written anew from
there: the cell by which each chapter installs the package on Colab, and links in the README and the other pages.
"""

import re
from pathlib import Path

import yaml
from command import Parser, run

ROOT = Path(__file__).resolve().parents[2]
FILES = ("_config.yml", "*.md", "*.toml", "*.cff", "environment.yml", ".github/**/*.yml", "book/*.md", "book/*.ipynb")


def slug(url: str) -> str:
    """NAME/REPO of an address; Colab opens notebooks from GitHub alone.

    >>> slug("https://github.com/NAME/REPO")
    'NAME/REPO'
    """
    match = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(\.git)?/?", url)
    if not match:
        raise ValueError(f"{url!r} is not of the form https://github.com/NAME/REPO")
    return match[1]


def change(text: str, old: tuple[str, str], new: tuple[str, str]) -> str:
    """The text with another NAME/REPO and branch.

    >>> change("git+https://github.com/a/b@main", ("a/b", "main"), ("c/d", "dev"))
    'git+https://github.com/c/d@dev'
    >>> change("[it](https://github.com/a/b/blob/main/book)", ("a/b", "main"), ("c/d", "dev"))
    '[it](https://github.com/c/d/blob/dev/book)'
    """
    branch = rf"(@|/(?:blob|tree|raw|edit)/|/){re.escape(old[1])}(?![\w-])"
    address = rf"(?<![\w.-]){re.escape(old[0])}(?![\w-])(?:{branch})?"
    return re.sub(address, lambda match: new[0] + (match[1] + new[1] if match[1] else ""), text)


def move(root: Path, url: str, branch: str | None = None) -> list[Path]:
    """Rewrites the files below the root and returns those that changed; without a branch it stays as it is."""
    config = root / "_config.yml"
    repository = yaml.safe_load(config.read_text("utf-8"))["repository"]
    old, new = (slug(repository["url"]), repository["branch"]), (slug(url), branch or repository["branch"])
    changed = []
    for path in sorted({path for pattern in FILES for path in root.glob(pattern)}):
        text = path.read_text("utf-8")
        written = change(text, old, new)
        if path == config:
            written = re.sub(r"(?m)^(  branch: ).*$", rf"\g<1>{new[1]}", written)
        # pip takes the default branch of a repository whose branch is not named
        written = re.sub(rf"(git\+https://github\.com/{re.escape(new[0])})(?![\w@.-])", rf"\g<1>@{new[1]}", written)
        if written != text:
            path.write_text(written, "utf-8")
            changed.append(path)
    return changed


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("url", help="https://github.com/NAME/REPO")
    parser.add_argument("branch", nargs="?", help="without it the branch stays as it is")
    args = parser.parse_args()
    for path in move(ROOT, args.url, args.branch):
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    run(main)
