"""How the commands in this folder end: a fault is one line on stderr, and so is a signal."""

import argparse
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """A parser whose description is a module's docstring and whose faults are one line, without the usage."""

    def __init__(self, doc: str):
        super().__init__(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; --help lists the options\n")


def stop(number: int, _: FrameType | None) -> NoReturn:
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the clearing up
    raise KeyboardInterrupt(number)


def run(main: Callable[[], int | None]) -> NoReturn:
    """Ends the process with what ``main`` returns, with 1 after a fault, with 128 + its number after a signal."""
    name = sys.argv[0].rpartition("/")[2]
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a terminal that cannot show a letter must not end a build
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # under nohup a hang-up stays ignored
            signal.signal(number, stop)
    try:
        sys.exit(main())
    except KeyboardInterrupt as interrupt:
        number = signal.Signals(interrupt.args[0])
        print(f"{name}: stopped by {number.name}; the next run goes on from what is finished", file=sys.stderr)
        sys.exit(128 + number)
    except (OSError, ValueError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(1)
