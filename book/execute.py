"""Runs one chapter through papermill and keeps the executed copy only if every cell of it has run.

    python book/execute.py book/03_stage1.ipynb --build _build/smoke --timeout 900 --threads 1

BUILD/inputs/03_stage1.json, which the workflow writes, holds the chapter's parameters, typed, and the hashes of what
it depends on. The executed copy goes to BUILD/executed and its mark to BUILD/done. A chapter that fails leaves
neither: its partial notebook stays in BUILD/partial, beside a text that names the cell, and the exit status is 1.

What papermill leaves open is closed here. It logs an unknown parameter and goes on; it has no limit for a whole
notebook; it marks every cell of a killed notebook as completed; `sys.exit(0)` in the middle ends it without an error.

The kernel is the interpreter that runs this file, whatever kernel the user has registered as "python3", and its
working folder is the notebook's own, as in Jupyter.
"""

import argparse
import ast
import contextlib
import json
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import nbformat
import psutil
from inputs import short_hash
from nbformat import NotebookNode

RECORD = "cascade_book"  # where the executed copy's metadata keep the inputs that it was made from
MEASURED = "measured"  # metadata of an executed copy: its time, memory and threads


def short(ename: str, evalue: str) -> str:
    """An error on one line: the partial notebook has the rest."""
    text = " ".join(evalue.split())
    return f"{ename}: {text[:300]}{'…' if len(text) > 300 else ''}"


class ChapterError(ValueError):
    """A chapter that may not run or has not run as it should; the message names the chapter and the cell."""


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def place(name: str, nb: NotebookNode, index: int) -> str:
    """Names a cell so that a person finds it in the source: its number there, counted from 1, and its first line."""
    added = {"injected-parameters", "papermill-error-cell-tag"}  # papermill's own cells are not in the source
    number = 1 + sum(added.isdisjoint(tags(cell)) for cell in nb.cells[:index])
    lines = nb.cells[index].source.strip().splitlines() or [""]
    return f"chapter {name}, cell {number} ({lines[0][:70]})"


def defaults(nb: NotebookNode, name: str) -> dict[str, Any]:
    """The names and values of the parameters cell, read by Python's own parser."""
    cells = [cell for cell in nb.cells if cell.cell_type == "code" and "parameters" in tags(cell)]
    if len(cells) != 1:
        raise ChapterError(f'chapter {name}: {len(cells)} cells have the tag "parameters"; it needs exactly one')
    values = {}
    try:
        for statement in ast.parse(cells[0].source).body:
            (target,) = statement.targets
            values[target.id] = ast.literal_eval(statement.value)
    except (AttributeError, SyntaxError, ValueError) as error:
        raise ChapterError(
            f"chapter {name}: its parameters cell may hold only lines `name = value`: {error}"
        ) from error
    return values


def check_source(nb: NotebookNode, name: str, parameters: dict[str, Any]) -> None:
    """Refuses a source that holds outputs, and a parameter that the chapter lacks or whose type is another."""
    for index, cell in enumerate(nb.cells):
        if cell.cell_type == "code" and (cell.outputs or cell.execution_count is not None):
            raise ChapterError(f"{place(name, nb, index)}: the source holds outputs; clear them and save it again")
    known = defaults(nb, name)
    for key, value in parameters.items():
        if key not in known:
            raise ChapterError(f"chapter {name}: unknown parameter {key!r}; it has {', '.join(known) or 'none'}")
        if known[key] is not None and type(value) is not type(known[key]):
            raise ChapterError(
                f"chapter {name}: parameter {key} is {known[key]!r} ({type(known[key]).__name__}) in the notebook; "
                f"{value!r} ({type(value).__name__}) does not fit it"
            )


def check_executed(nb: NotebookNode, name: str) -> None:
    """Refuses a notebook with an error or a code cell that never ran. Trusts counts and outputs, not metadata."""
    for index, cell in enumerate(nb.cells):
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            if output.output_type == "error":
                raise ChapterError(f"{place(name, nb, index)}: {short(output.ename, output.evalue)}")
        if cell.source.strip() and cell.execution_count is None:
            raise ChapterError(f"{place(name, nb, index)}: it never ran")


def running_cell(partial: Path, name: str) -> str:
    """Names the cell that a killed chapter had reached: the last one that was started."""
    try:
        nb = nbformat.read(partial, 4)
    except (OSError, ValueError):  # killed before, or while, it was written
        return f"chapter {name}"
    started = [i for i, cell in enumerate(nb.cells) if cell.metadata.get("papermill", {}).get("start_time")]
    return place(name, nb, started[-1]) if started else f"chapter {name}"


def kill_tree(pid: int) -> None:
    """Kills a process and all that it started. A kernel leads a session of its own: no group's signal reaches it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for member in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()


def memory_of(pid: int) -> int:
    """Bytes that a process and all that it started hold."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for member in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += member.memory_info().rss
    return total


def end_with_parent() -> None:
    wait([multiprocessing.parent_process().sentinel])
    kill_tree(os.getpid())


def run_papermill(
    notebook: Path,
    partial: Path,
    log: Path,
    scratch: Path,
    parameters: dict[str, Any],
    threads: int,
    result: Connection,
) -> None:
    """The child process: executes the notebook and sends what went wrong, (cell or None, message), or None."""
    os.setsid()  # Ctrl-C goes to the parent alone, which ends this process and its kernel
    threading.Thread(target=end_with_parent, daemon=True).start()
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    # A kernel named python3 in JUPYTER_PATH is found before the user's and the system's.
    kernel = scratch / "kernels" / "python3"
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    argv.append("--InlineBackend.figure_formats=retina")  # twice the pixels, for dense screens
    spec = {"argv": argv, "display_name": "Python 3 (ipykernel)", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    os.environ.update(
        JUPYTER_PATH=str(scratch),
        JUPYTER_RUNTIME_DIR=str(scratch),
        IPYTHONDIR=str(scratch / "ipython"),  # the user's start-up files are not the reader's
        OMP_NUM_THREADS=str(threads),
        MKL_NUM_THREADS=str(threads),
        OPENBLAS_NUM_THREADS=str(threads),
    )
    os.environ.pop("MPLBACKEND", None)  # a backend chosen outside would leave the pages without figures
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    try:
        papermill.execute_notebook(
            notebook,
            partial,
            parameters,
            kernel_name="python3",
            cwd=notebook.parent,
            progress_bar=False,
            log_output=True,
        )
        result.send(None)
    except PapermillExecutionError as error:
        result.send((error.cell_index, short(error.ename, error.evalue)))
    except DeadKernelError:
        result.send((None, "the kernel was killed; if nobody did, it ran out of memory"))
    except Exception as error:  # whatever it is, the parent says which chapter it stopped
        result.send((None, short(type(error).__name__, str(error))))


def execute(notebook: Path, partial: Path, log: Path, parameters: dict[str, Any], timeout: float, threads: int) -> int:
    """Executes the notebook into `partial`; raises ChapterError unless every cell ran within `timeout` seconds.

    Returns the most memory that it held, in bytes, as seen five times a second.
    """
    name = notebook.stem
    check_source(nbformat.read(notebook, 4), name, parameters)
    scratch = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=run_papermill, args=(notebook, partial, log, scratch, parameters, threads, sender))
    deadline, parent, most = time.monotonic() + timeout, os.getppid(), 0
    child.start()
    sender.close()
    try:
        while child.is_alive():
            child.join(0.2)
            most = max(most, memory_of(child.pid))
            if time.monotonic() > deadline:
                kill_tree(child.pid)
                raise ChapterError(f"{running_cell(partial, name)}: stopped after {timeout:g} s, the chapter's limit")
            if os.getppid() != parent:
                raise KeyboardInterrupt  # the workflow is gone: nobody waits for this chapter
        problem = receiver.recv() if receiver.poll() else (None, f"papermill ended with {child.exitcode}; see {log}")
    except EOFError:
        problem = (None, f"papermill ended with {child.exitcode}; see {log}")
    finally:
        kill_tree(child.pid)
        child.join()
        shutil.rmtree(scratch, ignore_errors=True)
    if problem is not None:
        index, message = problem
        if index is None:
            raise ChapterError(f"{running_cell(partial, name)}: {message}")
        # papermill has put two cells of its own into the file by now: one on top, one above the failed cell
        raise ChapterError(f"{place(name, nbformat.read(partial, 4), index + 2)}: {message}")
    check_executed(nbformat.read(partial, 4), name)
    return most


def read_executed(path: Path, name: str) -> NotebookNode:
    """An executed copy that was checked again on reading."""
    if not path.exists():
        raise ChapterError(f"chapter {name}: there is no executed copy at {path}")
    nb = nbformat.read(path, 4)
    check_executed(nb, name)
    return nb


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def leave_mark(executed: Path) -> int:
    (executed.parent.parent / "done" / executed.stem).write_text(short_hash(executed.read_bytes()))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--build", type=Path, required=True, help="the folder that has inputs/")
    parser.add_argument("--timeout", type=float, required=True, help="seconds for the whole chapter")
    parser.add_argument("--threads", type=int, default=1, help="threads of the chapter's kernel")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupted)

    name, build = args.notebook.stem, args.build.resolve()
    for folder in ("executed", "partial", "logs", "done"):
        (build / folder).mkdir(parents=True, exist_ok=True)
    executed, partial = build / "executed" / f"{name}.ipynb", build / "partial" / f"{name}.ipynb"
    message = partial.with_suffix(".txt")
    inputs = json.loads((build / "inputs" / f"{name}.json").read_text())

    # The workflow calls this for whatever stands on a chapter that ran; only what has changed itself runs again.
    before = {}
    with contextlib.suppress(ChapterError, ValueError):
        before = read_executed(executed, name).metadata.get(RECORD, {})
    if before == inputs:
        return leave_mark(executed)
    changed = ", ".join(key for key in inputs if before.get(key) != inputs[key])
    print(f"{name}: started ({changed} changed)" if before else f"{name}: started", flush=True)

    for old in (executed, partial, message):
        old.unlink(missing_ok=True)
    start = time.monotonic()
    try:
        most = execute(
            args.notebook.resolve(),
            partial,
            build / "logs" / f"{name}.log",
            inputs["parameters"],
            args.timeout,
            args.threads,
        )
        nb = nbformat.read(partial, 4)
        nb.metadata[RECORD] = inputs
        nb.metadata[MEASURED] = {"seconds": time.monotonic() - start, "bytes": most, "threads": args.threads}
        nbformat.write(nb, partial)
    except (ValueError, KeyboardInterrupt) as error:
        text = str(error) or f"{running_cell(partial, name)}: interrupted"
        if not isinstance(error, ChapterError | KeyboardInterrupt):  # a file that is no notebook
            text = f"chapter {name}: {text}"
        if partial.exists():
            text += f"\n  its partial notebook: {partial}"
        message.write_text(text + "\n")
        print(f"{name}: FAILED after {time.monotonic() - start:.0f} s\n{text}", flush=True)
        return 1
    os.replace(partial, executed)
    print(f"{name}: done in {time.monotonic() - start:.0f} s", flush=True)
    return leave_mark(executed)


if __name__ == "__main__":
    sys.exit(main())
