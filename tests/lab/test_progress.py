"""Progress in a log and in a notebook: what stands there in the end."""

import io
import sys
from types import SimpleNamespace

import pytest

from cascade_lab import progress
from cascade_lab.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_a_log_gets_a_line_every_ten_seconds_at_most(clock, capsys):
    bar = Progress("stage 1", 1000)
    for step in range(1, 1001):  # 25 s
        clock.now = step / 40
        bar.update(step, {"mse": 0.0123})
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 3  # after 10 s, after 20 s, at the end
    assert "\r" not in err
    assert "400/1000" in lines[0]
    assert "40.00 steps/s" in lines[0]
    assert "00:10<00:15" in lines[0]
    assert "mse 0.0123" in lines[-1]


def test_a_resumed_run_counts_its_own_steps_alone(clock, capsys):
    bar = Progress("stage 1", 100, done=90)
    clock.now = 5.0
    bar.update(100, {})
    assert "100/100" in (line := capsys.readouterr().err)
    assert " 2.00 steps/s" in line


def test_a_terminal_has_one_line(clock, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    bar = Progress("stage 1", 4)
    for step in range(1, 5):
        clock.now += 1.0
        bar.update(step, {})
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.count("\r") == 4


def test_no_notebook_is_seen_where_ipykernel_was_only_imported(clock, capsys):
    pytest.importorskip("ipykernel.kernelspec")
    Progress("stage 1", 4).update(4, {})
    out, err = capsys.readouterr()
    assert out == ""
    assert "4/4" in err


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_every_encoding_can_show_it(encoding, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding))
    Progress("a", 2).update(2, {"mse": 0.5})
    assert b"2/2" in sys.stderr.buffer.getvalue()


def test_a_notebook_keeps_one_line_of_text():
    nbformat, client = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    cell = (
        "import time\nfrom cascade_lab.progress import Progress\n"
        "bar = Progress('stage 1', 3)\nbar.interval = 0.0\n"
        "for step in (1, 2, 3):\n    bar.update(step, {'mse': 0.5})"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    client.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    assert output.output_type == "display_data"
    assert list(output.data) == ["text/plain"]
    assert output.data["text/plain"].count("\n") == 0
    assert "3/3" in output.data["text/plain"]
    assert "widgets" not in notebook.metadata
