"""``python -m operations.tutorial``: runs docs/tutorial.ipynb in a kernel, and writes it with its outputs.

The outputs are kept in git: text and pictures, which are the same in each run. `make tutorial` renews them after a
change of a cell; a slow test runs all cells and compares.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedpipe.command_line import without_arguments
from fedpipe.errors import PipelineError, run_stage
from layout import RAW

if TYPE_CHECKING:
    from nbformat import NotebookNode

NOTEBOOK = Path("docs/tutorial.ipynb")
_SECONDS = 600  # of a cell, at most
_KEPT = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def read(path: Path) -> "NotebookNode":
    """Reads a notebook."""
    import nbformat

    return nbformat.read(path, as_version=4)


def run(notebook: "NotebookNode", folder: Path) -> "NotebookNode":
    """The notebook with the outputs that a new kernel in ``folder`` gives, and nothing that differs from run to run.

    Raises:
      PipelineError: A cell raised an exception.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    resources, quietly = {"metadata": {"path": str(folder)}}, ["--log-level=ERROR"]
    client = NotebookClient(notebook, timeout=_SECONDS, resources=resources, extra_arguments=quietly)
    try:
        ran = client.execute()
    except CellExecutionError as error:
        raise PipelineError(f"a cell of the notebook failed: {error}") from None
    ran.metadata = type(ran)(_KEPT)
    for cell in ran.cells:
        cell.metadata = type(ran)()
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
    return ran


def _joined(outputs: "list[NotebookNode]") -> "list[NotebookNode]":
    """Outputs of which no two neighbours are of the same stream: how a kernel cuts a stream depends on the time."""
    joined: list[NotebookNode] = []
    for output in outputs:
        if joined and output.output_type == "stream" and joined[-1].get("name") == output.name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def texts(notebook: "NotebookNode") -> dict[str, list[str]]:
    """The text outputs of each cell by its id, and ``picture`` in the place of one."""
    return {cell.id: [_text(output) for output in cell.outputs] for cell in notebook.cells if cell.cell_type == "code"}


def _text(output: Any) -> str:
    if output.output_type == "stream":
        return f"{output.name}: {output.text}"
    return f"{output.output_type}: {'picture' if 'image/png' in output.data else output.data['text/plain']}"


def main() -> None:
    """Runs the notebook where it is, as Jupyter does."""
    import nbformat

    if not RAW.is_dir():
        raise PipelineError(f"{RAW} is missing: run `make repro` first")
    nbformat.write(run(read(NOTEBOOK), NOTEBOOK.parent), NOTEBOOK)
    print(f"tutorial: {NOTEBOOK}", file=sys.stderr)


if __name__ == "__main__":
    run_stage(without_arguments(main))
