"""The command as a whole: help, exit statuses, empty arguments, Ctrl-C, and terminals that cannot show a letter."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import typer
from PIL import Image

from cascade_lab import cli, devices
from cascade_lab.training import profiles

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
COMMANDS = [
    *([command.name or command.callback.__name__] for command in cli.app.registered_commands),
    *(["data", command.name or command.callback.__name__] for command in cli.data.registered_commands),
]


def call(capsys, *arguments) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command in this process."""
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    return ended.value.code, *capsys.readouterr()


class TestHelp:
    def test_the_list_of_commands_fits_a_screen(self, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", "80")
        code, output, _ = call(capsys, "--help")
        lines = output.splitlines()
        assert code == 0
        assert len(lines) <= 24
        assert max(map(len, lines)) <= 80
        assert "..." not in output.split("Commands:")[1]  # each line says its all

    @pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
    def test_of_a_command(self, capsys, monkeypatch, command):
        monkeypatch.setenv("COLUMNS", "80")
        code, output, _ = call(capsys, *command, "--help")
        assert code == 0
        assert len(output.splitlines()) <= 40
        assert output.startswith(f"Usage: cascade {' '.join(command)}")

    def test_comes_quickly(self):
        """torch takes seconds to import; nothing of it is needed to show what there is."""
        code = "import sys; from cascade_lab import cli; print(len({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
        ended = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True)
        assert ended.stdout == "0\n"

    def test_version(self, capsys, monkeypatch):
        monkeypatch.setattr(cli.importlib.metadata, "version", lambda name: {"cascade-core": "1.2.3"}[name])
        assert call(capsys, "--version") == (0, "cascade 1.2.3\n", "")

    def test_completion(self, capsys, monkeypatch):
        """The shell asks with these variables; the answer is what can follow."""
        asked = {"_CASCADE_COMPLETE": "complete_bash", "COMP_WORDS": "cascade res", "COMP_CWORD": "1"}
        for name, value in asked.items():
            monkeypatch.setenv(name, value)
        assert call(capsys)[1].split() == ["restore"]


class TestExits:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["nothing"], "No such command 'nothing'"),
            (["restore"], "Missing"),
            (["restore", "a.png", "--out", "b.png", "--device", "abacus"], "abacus"),
            (["restore", "a.png", "--out", "b.png", "--sed", "1"], "--sed"),
            (["data", "imagenet", "x", "--workers", "0"], "--workers"),
            (["data", "folder", "x", "--test", "many"], "--test"),
        ],
        ids=" ".join,
    )
    def test_usage_errors_are_2(self, capsys, arguments, message):
        code, output, error = call(capsys, *arguments)
        assert (code, output) == (2, "")
        assert message in error

    @pytest.mark.parametrize(
        "arguments",
        [
            ["restore", "a.png", "--out", ""],
            ["restore", "a.png", "--out="],
            ["restore", "a.png", "--out", "b.png", "--mask", ""],
            ["data", "bsd300", "--url", ""],
        ],
        ids=" ".join,
    )
    def test_an_empty_value_is_an_error(self, capsys, arguments):
        name = [argument.rstrip("=") for argument in arguments if argument.startswith("--")][-1]
        assert call(capsys, *arguments) == (2, "", f"error: {name} is empty: is a variable not set?\n")

    def test_an_empty_argument_is_an_error(self, capsys):
        assert call(capsys, "data", "folder", "")[0] == 2

    def test_trouble_is_one_line_and_1(self, capsys, tmp_path):
        errors = [ValueError("first\nsecond"), OSError(28, "No space left"), MemoryError(), RuntimeError("first")]

        def fails():
            raise errors.pop()

        while errors:
            app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
            app.command()(fails)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(cli, "app", app)
                code, _, said = call(capsys)
            assert code == 1
            assert re.fullmatch(r"error: (first|\[Errno 28\] No space left|MemoryError)\n", said)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_a_device_that_is_not_there(self, capsys, tmp_path):
        assert devices.fabric_for("32-true").device.type in ("cpu", "mps")
        with pytest.raises(ValueError, match="--device cuda: torch finds no such device here"):
            devices.fabric_for("auto", "cuda")

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_ctrl_c_is_one_line_and_130(self, tmp_path, workers):
        """The terminal's Ctrl-C goes to the workers, too; they say nothing."""
        Image.new("RGB", (4000, 4000)).save(tmp_path / "large.png")  # a tenth of a second each, and a few kB
        for split in ("train", "val"):
            (tmp_path / "copy" / split).mkdir(parents=True)
            for number in range(1000):
                os.link(tmp_path / "large.png", tmp_path / "copy" / split / f"{number}.png")
        command = ["data", "imagenet", "copy", "--out", "out", "--per-shard", "2", "--workers", workers]
        process = subprocess.Popen(
            [sys.executable, "-m", "cascade_lab", *command],
            env=ENVIRONMENT,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        until = time.monotonic() + 60
        while not list(tmp_path.glob("out/*.tar")) and time.monotonic() < until:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        output, error = process.communicate(timeout=60)
        assert (process.returncode, output) == (130, "")
        assert [line for line in error.splitlines() if "packing" not in line] == ["stopped by Ctrl-C"]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("arguments", [["profiles", "cpu"], ["data", "folder", "→"], ["restore", "→", "--out", "→"]])
def test_what_a_terminal_cannot_show_ends_no_command(encoding, arguments, tmp_path, monkeypatch):
    """The streams are as Python makes them with PYTHONIOENCODING: what they cannot write is an error to them."""
    monkeypatch.chdir(tmp_path)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding, write_through=True))
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    output, error = (stream.buffer.getvalue().decode(encoding) for stream in (sys.stdout, sys.stderr))
    fails = arguments[0] != "profiles"
    assert ended.value.code == fails
    assert (output == "", error.startswith("error: "), error.count("\n")) == (fails, fails, fails)


def test_profiles(capsys):
    code, output, _ = call(capsys, "profiles")
    assert [line.split()[0] for line in output.splitlines()] == list(profiles.PROFILES)
    code, output, _ = call(capsys, "profiles", "cpu")
    assert code == 0
    assert re.search(r"^stage1_steps +10000$", output, re.M)
    row = next(row for row in profiles.open_questions() if row["setting"] == "hole")
    assert f"- {row['question']}: 56 ({row['source']})" in output
    code, _, error = call(capsys, "profiles", "huge")
    assert (code, "unknown profile 'huge'" in error) == (1, True)
