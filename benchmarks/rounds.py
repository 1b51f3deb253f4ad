"""How every benchmark takes time: the contestants take turns in one process, and the median of the rounds counts."""

import time
from collections.abc import Callable, Hashable, Mapping
from statistics import median
from typing import Any

import torch


def take_turns(
    runs: Mapping[Hashable, Callable[[], Any] | None], rounds: int, device: str = "cpu", warm_up: int = 2
) -> dict[Hashable, float]:
    """Seconds that each run takes, the median of ``rounds``; what is None (not installed) is not in the answer.

    >>> list(take_turns({"ours": lambda: 1, "theirs": None}, rounds=3))
    ['ours']
    """
    seconds = {name: [] for name, run in runs.items() if run}
    for turn in range(rounds + warm_up):
        for name, times in seconds.items():
            start = time.perf_counter()
            runs[name]()
            if device != "cpu":
                torch.cuda.synchronize()
            if turn >= warm_up:
                times.append(time.perf_counter() - start)
    return {name: median(times) for name, times in seconds.items()}


def compare(seconds: Mapping[tuple[str, str], float], contestants: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """A row for each (task, way): its seconds, and how many times as fast "ours" does that task.

    A way that is not among the seconds is not installed: both are None.

    >>> compare({("a", "ours"): 1.0, ("a", "theirs"): 2.0}, [("a", "theirs")])
    [{'task': 'a', 'way': 'theirs', 'seconds': 2.0, 'ours_is_times_as_fast': 2.0}]
    """
    return [
        {
            "task": task,
            "way": way,
            "seconds": seconds.get((task, way)),
            "ours_is_times_as_fast": seconds[task, way] / seconds[task, "ours"] if (task, way) in seconds else None,
        }
        for task, way in contestants
    ]
