"""Three real browsers, driven alike: Chromium by Playwright, Firefox by the Marionette that is built into it, WebKit by
its own WebDriver on a screen that nobody sees. Each gives a `Tab`. All that a page asks for outside is caught."""

import contextlib
import http.server
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NEEDED = {  # what each is started with, and how Debian calls it
    "chromium": ([CHROMIUM or "chromium"], "chromium"),
    "firefox": (["firefox-esr"], "firefox-esr"),
    "webkit": (["WebKitWebDriver", "Xvfb"], "webkit2gtk-driver xvfb"),
}
PATIENCE = 180  # seconds for whatever a slow machine with many jobs has to load or to compute
KEYS = {"End": "\ue010", "Home": "\ue011", "ArrowLeft": "\ue012", "ArrowUp": "\ue013"}  # as WebDriver writes them
OWN = (".google.com", ".googleapis.com", ".firefox.com", ".mozilla.com", ".mozilla.net", ".mozilla.org")
"""The ends of the hosts that browsers ask by themselves, for updates say, some minutes after they were started."""
WAITED = "const done = arguments[arguments.length - 1]; ({})(...arguments).then(done, e => done({{failed: String(e)}}))"
Point = tuple[float, float]


@dataclass
class Tab:
    """A page in a browser."""

    run: Callable  # a JavaScript function and what it is given -> its value, waited for
    goto: Callable[[str], object]
    drag: Callable[[str, list[Point]], object]  # by "mouse" or "touch" along points of the window, in CSS pixels
    press: Callable[[str], object]  # a key, by its name
    memory: Callable[[], float]  # megabytes that the browser holds
    outside: list[str]  # what it has asked for beyond this machine


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(handler) -> Iterator[str]:
    """The address of a server that runs meanwhile."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@contextlib.contextmanager
def guarded() -> Iterator[tuple[str, list[str]]]:
    """A proxy that lets nothing through: its address, and the addresses that it was asked for."""
    asked = []

    class Closed(Quiet):
        def refuse(self):
            if not (urlsplit(self.path).hostname or self.path.partition(":")[0]).endswith(OWN):  # CONNECT has no scheme
                asked.append(self.path)
            self.send_error(502)

        do_GET = do_HEAD = do_POST = do_CONNECT = refuse  # noqa: N815 (http.server's names)

    with serving(Closed) as address:
        yield address, asked


def missing(name: str) -> str:
    """Why a browser cannot be tested; empty, if it can."""
    lacking = [program for program in NEEDED[name][0] if not shutil.which(program)]
    return f"NOT TESTED IN {name.upper()}: no {lacking[0]} (Debian: apt install {NEEDED[name][1]})" if lacking else ""


@contextlib.contextmanager
def opened(name: str, address: str, folder: Path) -> Iterator[Tab]:
    """A page in a fresh browser."""
    driver = {"chromium": chromium, "firefox": firefox, "webkit": webkit}[name]
    with guarded() as (proxy, asked), driver(folder, proxy) as tab:
        tab.outside = asked
        tab.goto(address)
        yield tab


def memory(process: psutil.Process) -> float:
    """What a process and its children hold, each page of memory shared by n of them counted as 1/n, in MB."""
    return sum(one.memory_full_info().pss for one in [process, *process.children(recursive=True)]) / 1e6


@contextlib.contextmanager
def chromium(folder, proxy):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        before = {child.pid for child in psutil.Process().children(recursive=True)}
        way = {"server": proxy, "bypass": "127.0.0.1"}  # without it, Playwright sends the server's pages there, too
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"], proxy=way
        )
        page = browser.new_page(has_touch=True)
        page.set_default_timeout(1000 * PATIENCE)
        new = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
        touch = page.context.new_cdp_session(page)

        def drag(kind, points):
            if kind == "mouse":
                page.mouse.move(*points[0])
                page.mouse.down()
                for point in points[1:]:
                    page.mouse.move(*point)
                return page.mouse.up()
            for type_, (x, y) in zip(["touchStart", *["touchMove"] * (len(points) - 1)], points, strict=True):
                touch.send("Input.dispatchTouchEvent", {"type": type_, "touchPoints": [{"x": x, "y": y}]})
            return touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

        def run(script, *given):
            late = f"new Promise((_, fail) => setTimeout(fail, {1000 * PATIENCE}, new Error('it took too long')))"
            return page.evaluate(f"given => Promise.race([({script})(...given), {late}])", list(given))

        yield Tab(run, page.goto, drag, page.keyboard.press, lambda: memory(new[0]), [])
        browser.close()


def pointer(kind: str, points: list[Point]) -> list[dict]:
    """A drag as WebDriver takes it."""
    moves = [{"type": "pointerMove", "duration": 20, "x": round(x), "y": round(y)} for x, y in points]
    steps = [moves[0], {"type": "pointerDown", "button": 0}, *moves[1:], {"type": "pointerUp", "button": 0}]
    return [{"type": "pointer", "id": kind, "parameters": {"pointerType": kind}, "actions": steps}]


def pressed(key: str) -> list[dict]:
    steps = [{"type": type_, "value": KEYS.get(key, key)} for type_ in ("keyDown", "keyUp")]
    return [{"type": "key", "id": "keys", "actions": steps}]


def wanted(proxy: str) -> dict:
    """The capabilities of a session whose requests go to the proxy."""
    return {"proxy": {"proxyType": "manual", "httpProxy": proxy, "sslProxy": proxy, "noProxy": ["127.0.0.1"]}}


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


def patiently(action, seconds=PATIENCE):
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
def firefox(folder, proxy):
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
        call("NewSession", **wanted(proxy))
        call("SetTimeouts", script=1000 * PATIENCE, pageLoad=1000 * PATIENCE)

        def run(script, *given):
            return call("ExecuteAsyncScript", script=WAITED.format(script), args=list(given))["value"]

        yield Tab(
            run,
            lambda address: call("Navigate", url=address),
            lambda kind, points: call("PerformActions", actions=pointer(kind, points)),
            lambda key: call("PerformActions", actions=pressed(key)),
            lambda: memory(psutil.Process(process.pid)),
            [],
        )


@contextlib.contextmanager
def webkit(folder, proxy):
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
            with urllib.request.urlopen(request, timeout=2 * PATIENCE) as answer:
                return json.load(answer)["value"]

        asked = {"alwaysMatch": wanted(proxy)}
        session = f"/{patiently(lambda: call('', capabilities=asked))['sessionId']}"
        call(f"{session}/timeouts", script=1000 * PATIENCE, pageLoad=1000 * PATIENCE)

        def run(script, *given):
            return call(f"{session}/execute/async", script=WAITED.format(script), args=list(given))

        yield Tab(
            run,
            lambda address: call(f"{session}/url", url=address),
            lambda kind, points: call(f"{session}/actions", actions=pointer(kind, points)),
            lambda key: call(f"{session}/actions", actions=pressed(key)),
            lambda: memory(psutil.Process(driver.pid)),
            [],
        )
