"""Exercises that say whether they are right.

A chapter's exercise is a text and three code cells, which their tags name:

- ``stub``: the function to write, with nothing in it
- ``check``: a function under `check`, and its first call
- ``solution``: the function written, and the check called again

`book/tools/execute.py` sees to it that each check refuses the stub and accepts the solution, and
`book/tools/render.py` makes a student's notebook of each chapter, without the solutions.
"""

import textwrap
from collections.abc import Callable

RIGHT, NOT_YET = "Right.", "Not yet."


def check(hint: str) -> Callable[[Callable[[], object]], Callable[[], None]]:
    """Make a test of an exercise into a check, which prints whether the answer is right, and a hint where it is not.

    Args:
        hint: what to think about, in a sentence.

    Returns:
        A decorator for a function that returns something true if the answer is right. An error in it, such as an
        unwritten function's ``None``, means that it is not; the error is printed behind the hint.

    Example:
        >>> def half(x):
        ...     return x / 2
        >>> @check("Divide by two.")
        ... def check_half():
        ...     return half(3) == 1.5
        >>> check_half()
        Right.
    """

    def decorate(test: Callable[[], object]) -> Callable[[], None]:
        def verdict() -> None:
            try:
                right, reason = bool(test()), ""
            except Exception as error:
                right, reason = False, f" ({type(error).__name__}: {error})"
            print(RIGHT if right else textwrap.fill(f"{NOT_YET} {hint}{reason}", 88))  # as wide as the page

        return verdict

    return decorate
