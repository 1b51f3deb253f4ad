"""One chapter: what papermill lets pass must not pass here."""

import json
import os
import signal
import subprocess
import sys
import time

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


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("\n# about\nraise RuntimeError('no\\nway')", "chapter a, cell 4 (# about): RuntimeError: no way"),
        ("import os\nos.kill(os.getpid(), 9)", "chapter a, cell 4 (import os): the kernel was killed"),
        ("raise SystemExit(0)", "chapter a, cell 4 (raise SystemExit(0)): SystemExit: 0"),
    ],
)
def test_a_failure_names_the_cell_and_leaves_the_partial_notebook_alone(book, code, message):
    book.write("a", notebook("print('before')", code, "print('after')"))
    book.executed("a").parent.mkdir(parents=True)
    book.executed("a").write_text("an older copy")
    run = book.execute("a", seed=1)
    assert run.returncode == 1
    assert message in run.stdout
    assert not book.executed("a").exists()
    assert "before" in text(nbformat.read(book.partial("a"), 4))
    assert "after" not in text(nbformat.read(book.partial("a"), 4))


def test_the_limit_holds_for_the_whole_chapter_and_nothing_is_left_running(book):
    """No cell is long; together they are. The kernel and what it had started are gone."""
    start = "import os, subprocess\nwork = subprocess.Popen(['sleep', '60'])\n"
    note = f"print(os.getpid(), work.pid, file=open({str(book.root / 'pids')!r}, 'w'), flush=True)"
    nap = "import time; time.sleep(2)"
    book.write("a", notebook(start + note, *[nap] * 20))
    run = book.execute("a", timeout=15, seed=1)  # a busy machine takes seconds to begin
    assert run.returncode == 1
    assert "(import time; time.sleep(2)): stopped after 15 s, the chapter's limit" in run.stdout
    assert book.partial("a").exists()
    assert not book.executed("a").exists()
    pids = [int(word) for word in (book.root / "pids").read_text().split()]
    gone = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=5)
    assert not gone[1]


def start(book, code: str) -> tuple[subprocess.Popen, psutil.Process]:
    """A chapter whose second cell runs, and its kernel."""
    book.write("a", notebook(code + "\nopen('running', 'w').close()\nimport time; time.sleep(60)"))
    inputs = book.build / "smoke" / "inputs" / "a.json"
    inputs.parent.mkdir(parents=True)
    inputs.write_text('{"parameters": {}}')
    command = [sys.executable, book.tools / "execute.py", book.book / "a.ipynb", "--build", book.build / "smoke"]
    process = subprocess.Popen([*command, "--timeout", "60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (book.book / "running").exists():
        assert process.poll() is None
        time.sleep(0.1)
    (kernel,) = [p for p in psutil.Process(process.pid).children() if "ipykernel_launcher" in " ".join(p.cmdline())]
    return process, kernel


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_ends_the_kernel_too(book, number):
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    try:
        process, kernel = start(book, "pass")
    finally:
        signal.signal(signal.SIGHUP, before)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert psutil.wait_procs([kernel], timeout=10)[1] == []
    assert not book.executed("a").exists()
    if number == signal.SIGKILL:  # it leaves its scratch folder, which the next run clears
        assert book.execute("a", timeout=8).returncode == 1
    else:
        assert process.returncode == 128 + number
        assert out == "a: started\n"
        end = f"execute.py: stopped by {number.name}; the next run goes on from what is finished"
        assert err.splitlines()[-1] == end
        assert "KeyboardInterrupt" not in err
    assert not any((book.build / "smoke" / "scratch").iterdir())


def test_under_nohup_a_hang_up_is_ignored(book):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process, _ = start(book, "pass")
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    process.send_signal(signal.SIGHUP)
    time.sleep(1)
    assert process.poll() is None
    process.terminate()
    process.communicate(timeout=20)


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"parameters": 1}'])
def test_inputs_that_are_missing_are_said_in_one_line(book, content):
    path = book.build / "smoke" / "inputs" / "a.json"
    path.parent.mkdir(parents=True)
    if content is not None:
        path.write_text(content)
    command = [sys.executable, book.tools / "execute.py", book.book / "a.ipynb", "--build", book.build / "smoke"]
    run = subprocess.run([*command, "--timeout", "60"], capture_output=True, text=True)
    assert run.returncode == 1
    remedy = "run `python book/tools/build.py a`, which writes it"
    assert run.stderr == f"execute.py: {path} does not hold the inputs of chapter a; {remedy}\n"


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
