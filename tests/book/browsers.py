"""Three real browsers, driven alike: Chromium by Playwright, Firefox by the Marionette that is built into it, WebKit by
its own WebDriver on a screen that nobody sees. Each gives a page's `run`: a JavaScript function's value, waited for."""

import contextlib
import http.server
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NEEDED = {  # what each is started with, and how Debian calls it
    "chromium": ([CHROMIUM or "chromium"], "chromium"),
    "firefox": (["firefox-esr"], "firefox-esr"),
    "webkit": (["WebKitWebDriver", "Xvfb"], "webkit2gtk-driver xvfb"),
}
WAITED = "const done = arguments[arguments.length - 1]; ({})(...arguments).then(done, e => done({{failed: String(e)}}))"
Run = Callable[..., object]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def missing(name: str) -> str:
    """Why a browser cannot be tested; empty, if it can."""
    lacking = [program for program in NEEDED[name][0] if not shutil.which(program)]
    return f"NOT TESTED IN {name.upper()}: no {lacking[0]} (Debian: apt install {NEEDED[name][1]})" if lacking else ""


@contextlib.contextmanager
def opened(name: str, address: str, folder: Path) -> Iterator[tuple[Run, Callable[[], float]]]:
    """A page in a fresh browser: what runs a JavaScript function in it, and the megabytes that the browser holds."""
    driver = {"chromium": chromium, "firefox": firefox, "webkit": webkit}[name]
    with driver(address, folder) as (run, process):
        yield run, lambda: memory(process)


def memory(process: psutil.Process) -> float:
    """What a process and its children hold, each page of memory shared by n of them counted as 1/n, in MB."""
    return sum(one.memory_full_info().pss for one in [process, *process.children(recursive=True)]) / 1e6


@contextlib.contextmanager
def chromium(address, folder):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        before = {child.pid for child in psutil.Process().children(recursive=True)}
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.goto(address)
        new = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
        yield lambda script, *given: page.evaluate(f"given => ({script})(...given)", list(given)), new[0]
        browser.close()


@contextlib.contextmanager
def started(*command: object, **manner) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **manner)
    try:
        yield process
    finally:
        for child in [*psutil.Process(process.pid).children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def patiently(action, seconds=60):
    """Tries again until what was started answers."""
    end = time.monotonic() + seconds
    while True:
        try:
            return action()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


@contextlib.contextmanager
def firefox(address, folder):
    port = free_port()
    (folder / "user.js").write_text(f'user_pref("marionette.port", {port});\n')
    with (
        started("firefox-esr", "--headless", "--marionette", "--no-remote", "--profile", folder) as process,
        patiently(lambda: socket.create_connection(("127.0.0.1", port))) as connection,
    ):
        stream = connection.makefile("rb")

        def receive():
            length = b"".join(iter(lambda: stream.read(1), b":"))
            return json.loads(stream.read(int(length)))

        def call(command, **given):
            message = json.dumps([0, 1, f"WebDriver:{command}", given]).encode()
            connection.sendall(str(len(message)).encode() + b":" + message)
            _, _, error, result = receive()
            assert error is None, error
            return result

        receive()  # its greeting
        call("NewSession")
        call("SetTimeouts", script=300_000)
        call("Navigate", url=address)

        def run(script, *given):
            return call("ExecuteAsyncScript", script=WAITED.format(script), args=list(given))["value"]

        yield run, psutil.Process(process.pid)


@contextlib.contextmanager
def webkit(address, folder):
    port, display = free_port(), f":{free_port()}"
    with (
        started("Xvfb", display, "-screen", "0", "1280x1024x24"),
        started(
            "WebKitWebDriver", f"--port={port}", env={"DISPLAY": display, "HOME": str(folder), "PATH": "/usr/bin"}
        ) as driver,
    ):
        here = f"http://127.0.0.1:{port}/session"

        def call(path, **given):
            request = urllib.request.Request(here + path, json.dumps(given).encode())
            with urllib.request.urlopen(request, timeout=300) as answer:
                return json.load(answer)["value"]

        session = f"/{patiently(lambda: call('', capabilities={}))['sessionId']}"
        call(f"{session}/timeouts", script=300_000)
        call(f"{session}/url", url=address)

        def run(script, *given):
            return call(f"{session}/execute/async", script=WAITED.format(script), args=list(given))

        yield run, psutil.Process(driver.pid)
