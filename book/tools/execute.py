"""Runs one chapter through papermill and keeps the executed copy only if every cell of it has run.

    python book/tools/execute.py book/03_stage1.ipynb --build _build/smoke --timeout 900 --threads 1

BUILD/inputs/03_stage1.json, which the workflow writes, holds the chapter's parameters, typed, and the hashes of what
it depends on. The executed copy goes to BUILD/executed and its mark to BUILD/done. A chapter that fails leaves
neither: its partial notebook stays in BUILD/partial, beside a text that names the cell, and the exit status is 1.

What papermill leaves open is closed here. It logs an unknown parameter and goes on; it has no limit for a whole
notebook; it marks every cell of a killed notebook as completed; `sys.exit(0)` in the middle ends it without an error.

The kernel is the interpreter that runs this file, whatever kernel the user has registered as "python3", and its
working folder is the notebook's own, as in Jupyter.
"""

import ast
import contextlib
import json
import logging
import os
import resource
import shutil
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import nbformat
import psutil
from command import Parser, run
from nbformat import NotebookNode

from cascade_lab.show.exercises import NOT_YET, RIGHT

RECORD = "cascade_book"  # where the executed copy's metadata keep the inputs that it was made from
MEASURED = "measured"  # metadata of an executed copy: its time, memory and threads


class ChapterError(ValueError):
    """A chapter that may not run or has not run as it should; the message names the chapter and the cell."""


def short(error: str) -> str:
    """An error on one line: the partial notebook has the rest."""
    text = " ".join(error.split())
    return text if len(text) <= 300 else f"{text[:300]}…"


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
        message = f"chapter {name}: its parameters cell may hold only lines `name = value`: {error}"
        raise ChapterError(message) from error
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
            source = f"{known[key]!r} ({type(known[key]).__name__}) in the notebook"
            misfit = f"{value!r} ({type(value).__name__}) does not fit it"
            raise ChapterError(f"chapter {name}: parameter {key} is {source}; {misfit}")


def check_executed(nb: NotebookNode, name: str) -> None:
    """Refuses a notebook with an error or a code cell that never ran. Trusts counts and outputs, not metadata."""
    for index, cell in enumerate(nb.cells):
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            if output.output_type == "error":
                error = short(f"{output.ename}: {output.evalue}")
                raise ChapterError(f"{place(name, nb, index)}: {error}")
        if cell.source.strip() and cell.execution_count is None:
            raise ChapterError(f"{place(name, nb, index)}: it never ran")


def check_exercises(nb: NotebookNode, name: str) -> None:
    """Refuses an exercise whose check accepts the stub or refuses the solution, or that lacks one of these cells."""
    order = ("stub", "check", "solution")
    found = [(index, tag) for index, cell in enumerate(nb.cells) for tag in order if tag in tags(cell)]
    for (index, tag), wanted in zip(found, order * len(found), strict=False):
        where = place(name, nb, index)
        if tag != wanted:
            raise ChapterError(f"{where}: a {tag} where the exercise needs its {wanted}")
        said = "".join(output.get("text", "") for output in nb.cells[index].outputs)
        if tag == "check" and not said.startswith(NOT_YET):
            raise ChapterError(f"{where}: the check must refuse the stub, and it says {said!r}")
        if tag == "solution" and RIGHT not in said.splitlines():
            raise ChapterError(f"{where}: the check must accept the solution, and it says {said!r}")
    if found and found[-1][1] != "solution":
        raise ChapterError(f"{place(name, nb, found[-1][0])}: the exercise has no solution")


def read_executed(path: Path, name: str) -> NotebookNode:
    """An executed copy that is checked again on reading."""
    if not path.exists():
        raise ChapterError(f"chapter {name}: there is no executed copy at {path}; run `make book`")
    nb = nbformat.read(path, 4)
    check_executed(nb, name)
    check_exercises(nb, name)
    return nb


def running_cell(partial: Path) -> str:
    """Names the cell that a killed chapter had reached: the last one that was started."""
    try:
        nb = nbformat.read(partial, 4)
    except (OSError, ValueError):  # killed before, or while, it was written
        return f"chapter {partial.stem}"
    started = [i for i, cell in enumerate(nb.cells) if cell.metadata.get("papermill", {}).get("start_time")]
    return place(partial.stem, nb, started[-1]) if started else f"chapter {partial.stem}"


def surround(scratch: Path, threads: int) -> None:
    """Sets the kernel's environment. A kernel named python3 in JUPYTER_PATH is found before the user's and the
    system's, and the user's start-up files and history are not the reader's."""
    from ipykernel.kernelspec import write_kernel_spec

    sharp = "--InlineBackend.figure_formats=retina"  # twice the pixels, for dense screens
    write_kernel_spec(scratch / "kernels" / "python3", extra_arguments=[sharp, "--HistoryManager.enabled=False"])
    os.environ.update(dict.fromkeys(("JUPYTER_PATH", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"), str(scratch)))
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)))
    os.environ.pop("MPLBACKEND", None)  # a backend chosen outside would leave the pages without figures


def kill_children() -> None:
    """Kills all that this process started. A kernel leads a session of its own: no group's signal reaches it."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def watch(job: Future, timeout: float) -> str | None:
    """Waits until the job has ended; returns why it may not go on, if there is a reason."""
    deadline, parent = time.monotonic() + timeout, os.getppid()
    while not wait([job], 0.2).done:
        if time.monotonic() > deadline:
            return f"stopped after {timeout:g} s, the chapter's limit"
        if os.getppid() != parent:
            return "stopped, because the build that started it has ended"
    return None


def execute(notebook: Path, partial: Path, parameters: dict[str, Any], timeout: float) -> NotebookNode:
    """The executed notebook; raises ChapterError unless every cell of it ran within `timeout` seconds.

    Papermill has a thread of its own: outside the main thread it leaves this process's signals alone.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    os.chdir(notebook.parent)
    files = (notebook.name, os.path.relpath(partial))  # in a whole path papermill would replace {words}
    manner = {"kernel_name": "python3", "cwd": ".", "progress_bar": False, "log_output": True}
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(papermill.execute_notebook, *files, parameters, **manner)
        try:
            problem = watch(job, timeout)
        finally:
            while not job.done():  # more than once, because papermill may have been about to start the kernel
                kill_children()
                wait([job], 0.2)
    error = job.exception()
    if isinstance(error, DeadKernelError):
        problem = problem or "the kernel was killed; if nobody did, it ran out of memory"
    elif not isinstance(error, PapermillExecutionError | None):
        problem = problem or short(f"{type(error).__name__}: {error}")
    if problem:
        raise ChapterError(f"{running_cell(partial)}: {problem}")
    return read_executed(partial, notebook.stem)


def asked(path: Path) -> dict[str, Any]:
    """What the workflow wrote down for a chapter: its parameters and the hashes of what it depends on."""
    try:
        inputs = json.loads(path.read_text("utf-8"))
        return inputs | {"parameters": dict(inputs["parameters"])}
    except (KeyError, OSError, TypeError, ValueError):
        remedy = f"run `python book/tools/build.py {path.stem}`, which writes it"
        raise ChapterError(f"{path} does not hold the inputs of chapter {path.stem}; {remedy}") from None


def make_copy(notebook: Path, partial: Path, inputs: dict[str, Any], timeout: float, threads: int) -> None:
    """Leaves the executed notebook at `partial`, with its inputs and what it took in its metadata."""
    scratch, start = partial.parents[1] / "scratch" / notebook.stem, time.monotonic()
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        check_source(nbformat.read(notebook, 4), notebook.stem, inputs["parameters"])
        surround(scratch, threads)
        nb = execute(notebook, partial, inputs["parameters"], timeout)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    nb.metadata[RECORD] = inputs
    nb.metadata[MEASURED] = {"seconds": time.monotonic() - start, "bytes": memory, "threads": threads}
    nbformat.write(nb, partial)


def main() -> int | None:
    parser = Parser(__doc__)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--build", type=Path, required=True, help="the folder that has inputs/")
    parser.add_argument("--timeout", type=float, required=True, help="seconds for the whole chapter")
    parser.add_argument("--threads", type=int, default=1, help="threads of the chapter's kernel")
    args = parser.parse_args()
    notebook, build, name, start = args.notebook.resolve(), args.build.resolve(), args.notebook.stem, time.monotonic()
    if not notebook.is_file():
        parser.error(f"there is no notebook {notebook}; name a chapter, such as book/03_stage1.ipynb")
    inputs = asked(build / "inputs" / f"{name}.json")
    for folder in ("executed", "partial", "done"):
        (build / folder).mkdir(exist_ok=True)
    executed, partial = build / "executed" / f"{name}.ipynb", build / "partial" / f"{name}.ipynb"
    mark, message = build / "done" / name, partial.with_suffix(".txt")
    # The workflow calls this for whatever stands on a chapter that ran; only what has changed itself runs again.
    before = {}
    with contextlib.suppress(ValueError):
        before = read_executed(executed, name).metadata.get(RECORD, {})
    if before == inputs:
        return mark.touch()
    changed = ", ".join(key for key in inputs if before.get(key) != inputs[key])
    for old in (mark, executed, partial, message):
        old.unlink(missing_ok=True)
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # papermill's, with what the cells print, on stderr
    print(f"{name}: started ({changed} changed)" if before else f"{name}: started", flush=True)
    try:
        make_copy(notebook, partial, inputs, args.timeout, args.threads)
    except ValueError as error:
        text = str(error) if isinstance(error, ChapterError) else f"chapter {name}: {error}"  # it is not a notebook
        if partial.exists():
            text += f"\n  its partial notebook: {partial}"
        message.write_text(text + "\n", "utf-8")
        print(f"{name}: FAILED after {time.monotonic() - start:.0f} s\n{text}", flush=True)
        return 1
    os.replace(partial, executed)
    print(f"{name}: done in {time.monotonic() - start:.0f} s", flush=True)
    return mark.touch()


if __name__ == "__main__":
    run(main)
