"""One chapter: what papermill lets pass must not pass here."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import execute
import nbformat
import psutil
import pytest
from nbformat import v4

from .conftest import notebook


def text(nb) -> str:
    return "".join(output.get("text", "") for cell in nb.cells for output in cell.get("outputs", []))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sed": 1}, "unknown parameter 'sed'; it has profile_name, data_folder, runs_folder, seed"),
        ({"seed": "1"}, "parameter seed is 0 .int. in the notebook; '1' .str. does not fit"),
        ({"seed": True}, "True .bool. does not fit"),
    ],
)
def test_a_parameter_that_does_not_fit_is_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        execute.check_source(notebook(), "a", parameters)


def test_the_string_false_is_no_boolean():
    with pytest.raises(ValueError, match="'false' .str. does not fit"):
        execute.check_source(notebook(parameters="smoke = True"), "a", {"smoke": "false"})


def test_an_equals_sign_in_a_string_is_no_parameter():
    assert execute.defaults(notebook(parameters='name = "a = 1"  # b = 2'), "a") == {"name": "a = 1"}


EXERCISE = {"stub": "", "check": "Not yet. Think.\n", "solution": "Right.\n"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, None),
        ({"check": "Right.\n"}, "cell 4 .2.: the check must refuse the stub, and it says 'Right"),
        ({"solution": "Not yet. Think.\n"}, "cell 5 .3.: the check must accept the solution"),
        ({"solution": None}, "cell 4 .2.: the exercise has no solution"),
        ({"check": None}, "cell 4 .3.: a solution where the exercise needs its check"),
    ],
)
def test_an_exercise_tells_right_from_wrong(changed, message):
    cells = {tag: said for tag, said in (EXERCISE | changed).items() if said is not None}
    nb = notebook(*(str(1 + list(EXERCISE).index(tag)) for tag in cells))
    for cell, (tag, said) in zip(nb.cells[2:], cells.items(), strict=True):
        cell.metadata["tags"], cell.outputs = [tag], [v4.new_output("stream", text=said)]
    if message is None:
        execute.check_exercises(nb, "a")
    else:
        with pytest.raises(ValueError, match=message):
            execute.check_exercises(nb, "a")


@pytest.mark.parametrize("parameters", ["seed = 1 + x", "import os", "a, b = 1, 2", "seed ="])
def test_a_parameters_cell_holds_plain_values(parameters):
    with pytest.raises(ValueError, match="chapter a: its parameters cell"):
        execute.defaults(notebook(parameters=parameters), "a")


def test_a_chapter_without_a_parameters_cell_is_refused():
    with pytest.raises(ValueError, match='0 cells have the tag "parameters"'):
        execute.check_source(v4.new_notebook(), "a", {})


def test_a_source_with_outputs_is_refused():
    nb = notebook("1")
    nb.cells[2].outputs = [v4.new_output("stream", text="1")]
    with pytest.raises(ValueError, match=r"chapter a, cell 3 \(1\): the source holds outputs"):
        execute.check_source(nb, "a", {})


def test_metadata_that_say_completed_are_not_believed():
    """A killed notebook as papermill leaves it: every cell "completed", the last ones without a count."""
    nb = notebook("1", "# two\n2", "  ")
    nb.cells[1].execution_count, nb.cells[2].execution_count = 1, 2
    for cell in nb.cells:
        cell.metadata["papermill"] = {"status": "completed", "exception": False}
    with pytest.raises(ValueError, match=r"chapter a, cell 4 \(# two\): it never ran"):
        execute.check_executed(nb, "a")
    nb.cells[3].execution_count = 3
    execute.check_executed(nb, "a")  # the blank cell has no count and needs none


def test_parameters_and_surroundings_of_a_chapter(book, tmp_path):
    """Types arrive; the kernel is this interpreter even if the user's "python3" is another; no setting from outside
    takes the figures away; the working folder is the notebook's."""
    spec = tmp_path / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": ["/nowhere/python", "{connection_file}"], "display_name": "other"}))
    outside = {"JUPYTER_DATA_DIR": str(tmp_path), "JUPYTER_PREFER_ENV_PATH": "0", "MPLBACKEND": "agg"}
    look = (
        "import os, sys\nprint(json := [seed, data_folder, sys.executable, os.getcwd(), os.environ['OMP_NUM_THREADS']])"
    )
    book.write("a", notebook(look, "import matplotlib.pyplot as plt\nplt.plot([1, 2]);"))
    run = book.execute("a", env=os.environ | outside, seed=3, data_folder=None)
    assert run.returncode == 0, run.stdout + run.stderr
    nb = nbformat.read(book.executed("a"), 4)
    assert text(nb).strip() == str([3, None, sys.executable, str(book.book), "1"])
    assert any("image/png" in output.get("data", {}) for output in nb.cells[-1].outputs)
    assert not book.partial("a").exists()


FAILURES = {
    "a": ("\n# about\nraise RuntimeError('no\\nway')", "chapter a, cell 4 (# about): RuntimeError: no way"),
    "b": ("import os\nos.kill(os.getpid(), 9)", "chapter b, cell 4 (import os): the kernel was killed"),
    "c": ("raise SystemExit(0)", "chapter c, cell 4 (raise SystemExit(0)): SystemExit: 0"),
}


def test_a_failure_names_the_cell_and_leaves_the_partial_notebook_alone(book):
    book.executed("a").parent.mkdir(parents=True)
    for name, (code, _) in FAILURES.items():
        book.write(name, notebook("print('before')", code, "print('after')"))
        book.executed(name).write_text("an older copy")
    with ThreadPoolExecutor() as pool:  # each waits for its kernel most of the time
        runs = dict(zip(FAILURES, pool.map(lambda name: book.execute(name, seed=1), FAILURES), strict=True))
    for name, (_, message) in FAILURES.items():
        assert runs[name].returncode == 1
        assert message in runs[name].stdout
        assert not book.executed(name).exists()
        assert "before" in text(nbformat.read(book.partial(name), 4))
        assert "after" not in text(nbformat.read(book.partial(name), 4))


# The limit counts from the first cell's note, whatever time a busy machine takes to come that far.
FROM_THE_NOTE = """
import pathlib, time
import execute
pids, watch = pathlib.Path({pids!r}), execute.watch
def late(*arguments):
    while not pids.exists():
        time.sleep(0.1)
    return watch(*arguments)
execute.watch = late
execute.run(execute.main)
"""


def test_the_limit_holds_for_the_whole_chapter_and_nothing_is_left_running(book):
    """No cell is long; together they are. The kernel and what it had started are gone."""
    start, pids = "import os, subprocess\nwork = subprocess.Popen(['sleep', '60'])\n", book.root / "pids"
    note = f"print(os.getpid(), work.pid, file=open({str(pids)!r}, 'w'), flush=True)"
    book.write("a", notebook(start + note, *["import time; time.sleep(1)"] * 20))
    (book.tools / "late.py").write_text(FROM_THE_NOTE.format(pids=str(pids)))
    run = book.execute("a", timeout=3, script="late.py", seed=1)
    assert run.returncode == 1
    assert "(import time; time.sleep(1)): stopped after 3 s, the chapter's limit" in run.stdout
    assert book.partial("a").exists()
    assert not book.executed("a").exists()
    running = [psutil.Process(int(pid)) for pid in pids.read_text().split() if psutil.pid_exists(int(pid))]
    assert psutil.wait_procs(running, timeout=5)[1] == []


def start(book, name: str) -> subprocess.Popen:
    """A chapter whose second cell will wait."""
    running = f"open({str(book.root / name)!r}, 'w').close()\nimport time; time.sleep(120)"
    book.write(name, notebook(running))
    inputs = book.build / "smoke" / "inputs" / f"{name}.json"
    inputs.parent.mkdir(parents=True, exist_ok=True)
    inputs.write_text('{"parameters": {}}')
    command = [sys.executable, book.tools / "execute.py", book.book / f"{name}.ipynb", "--build", book.build / "smoke"]
    return subprocess.Popen([*command, "--timeout", "120"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kernel(book, name: str, process: subprocess.Popen) -> psutil.Process:
    """The kernel of a chapter that was started, when its second cell runs."""
    while not (book.root / name).exists():
        assert process.poll() is None
        time.sleep(0.1)
    (kernel,) = [p for p in psutil.Process(process.pid).children() if "ipykernel_launcher" in " ".join(p.cmdline())]
    return kernel


def test_a_signal_ends_the_kernel_too(book):
    """All chapters are started together, since each waits for its kernel; the last one under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    try:
        numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL]
        started = {number: start(book, number.name) for number in numbers}
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        ignoring = start(book, "nohup")
    finally:
        signal.signal(signal.SIGHUP, before)
    for number, process in started.items():
        name, below = number.name, kernel(book, number.name, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=90)
        assert psutil.wait_procs([below], timeout=10)[1] == []
        assert not book.executed(name).exists()
        scratch = book.build / "smoke" / "scratch" / name
        if number == signal.SIGKILL:  # it leaves its scratch folder, which the next run clears, whatever it comes to
            assert scratch.exists()
            assert book.execute(name, lost=1).returncode == 1
        else:
            assert process.returncode == 128 + number
            assert out == f"{name}: started\n"
            end = f"execute.py: stopped by {name}; the next run goes on from what is finished"
            assert err.splitlines()[-1] == end
            assert "KeyboardInterrupt" not in err
        assert not scratch.exists()
    kernel(book, "nohup", ignoring)
    ignoring.send_signal(signal.SIGHUP)
    time.sleep(1)
    assert ignoring.poll() is None
    ignoring.terminate()
    ignoring.communicate(timeout=90)


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"parameters": 1}'])
def test_inputs_that_are_missing_are_said(tmp_path, content):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content)
    remedy = "run `python book/tools/build.py a`, which writes it"
    with pytest.raises(ValueError, match=re.escape(f"{path} does not hold the inputs of chapter a; {remedy}")):
        execute.asked(path)


def test_missing_inputs_are_said_in_one_line(book):
    command = [sys.executable, book.tools / "execute.py", book.book / "a.ipynb", "--build", book.build / "smoke"]
    run = subprocess.run([*command, "--timeout", "60"], capture_output=True, text=True)
    assert run.returncode == 1
    assert re.fullmatch(r"execute\.py: .*/a\.json does not hold the inputs of chapter a; .*\n", run.stderr)


def test_a_notebook_that_is_missing_is_said_in_one_line(book):
    run = book.execute("lost")
    assert run.returncode == 2
    assert f"there is no notebook {book.book / 'lost.ipynb'}; name a chapter" in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_a_file_that_is_not_a_notebook_is_named(book):
    (book.book / "a.ipynb").write_text("{")
    run = book.execute("a")
    assert run.returncode == 1
    assert "chapter a: " in run.stdout
    assert "Traceback" not in run.stdout + run.stderr
