"""How far a long run is: tqdm's line, rewritten in place where that can be, and seldom where it cannot."""

import shutil
import sys
import time
from typing import Any

from tqdm import tqdm


class Progress:
    """Shows the steps done, the losses, the speed and the time left, in ASCII.

    In a notebook and in a terminal one line is rewritten in place, and what stands there at the end stays. In a log a
    new line is written every ten seconds, and at the end. tqdm's own bars would leave a widget or hundreds of lines.

    Args:
        title: what runs.
        total: how many steps there are.
        done: how many were done before, by the run that is resumed.
    """

    def __init__(self, title: str, total: int, done: int = 0) -> None:
        self.title, self.total, self.done = title, total, done
        self.begin = self.shown = time.monotonic()
        self.handle, self.terminal = None, sys.stderr.isatty()
        ipython = sys.modules.get("IPython")
        if ipython and hasattr(ipython.get_ipython(), "kernel"):  # that ipykernel was imported says nothing
            from IPython.display import display

            self.handle = display({"text/plain": self.line(done, {})}, raw=True, display_id=True)
        self.interval = 0.5 if self.handle or self.terminal else 10.0

    def line(self, step: int, losses: dict[str, float]) -> str:
        seconds, values = time.monotonic() - self.begin, [f"{name} {value:.3g}" for name, value in losses.items()]
        options: dict[str, Any] = {"prefix": self.title, "unit": " steps", "ascii": True, "initial": self.done}
        room = shutil.get_terminal_size().columns - 1 if self.terminal else None
        return tqdm.format_meter(step, self.total, seconds, room, postfix=", ".join(values), **options)

    def update(self, step: int, losses: dict[str, float]) -> None:
        now, last = time.monotonic(), step >= self.total
        if not last and now - self.shown < self.interval:
            return
        self.shown = now
        if self.handle is not None:
            self.handle.update({"text/plain": self.line(step, losses)}, raw=True)
        else:
            start, end = ("\r", "\n" if last else "") if self.terminal else ("", "\n")
            print(start + self.line(step, losses), end=end, file=sys.stderr, flush=True)
