"""How far a long run is: a bar in a notebook, one line an interval in a log."""

import sys
import time


class Progress:
    """Shows the steps done, the losses, the speed and the time left.

    In a notebook one line is rewritten in place, and what stands there at the end stays on the page. Anywhere else a
    new line is printed every ``interval`` seconds, and at the end.

    Args:
        title: what runs.
        total: how many steps there are.
        done: how many were done before, by the run that is resumed.
    """

    def __init__(self, title: str, total: int, done: int = 0, interval: float = 10.0) -> None:
        self.title, self.total, self.done = title, total, done
        self.begin = time.monotonic()
        self.handle = None
        if "ipykernel" in sys.modules:
            from IPython.display import display

            self.interval = 0.5
            self.handle = display({"text/plain": self.line(done, {})}, raw=True, display_id=True)
        else:
            self.interval = interval
        self.shown = self.begin

    def line(self, step: int, losses: dict[str, float]) -> str:
        seconds = time.monotonic() - self.begin
        each = seconds / max(1, step - self.done)
        bar = "━" * round(20 * step / self.total)
        parts = [f"{self.title}  {bar:<20}  {step}/{self.total}"]
        parts += [f"{name} {value:.3g}" for name, value in losses.items()]
        if step > self.done:
            parts.append(f"{1 / each:.1f} steps/s" if each < 1 else f"{each:.1f} s/step")
            left = each * (self.total - step)
            parts.append(f"{clock(left)} left" if step < self.total else f"{clock(seconds)} in all")
        return "  ".join(parts)

    def update(self, step: int, losses: dict[str, float]) -> None:
        now = time.monotonic()
        if step < self.total and now - self.shown < self.interval:
            return
        self.shown = now
        if self.handle is not None:
            self.handle.update({"text/plain": self.line(step, losses)}, raw=True)
        else:
            print(self.line(step, losses), flush=True)


def clock(seconds: float) -> str:
    """
    >>> clock(4000), clock(75)
    ('1:06:40', '1:15')
    """
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
