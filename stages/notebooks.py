"""Execute the notebooks and write them as HTML pages, to be read without Jupyter.

    python -m stages.notebooks [compare_runs …]

Reads notebooks/*.ipynb (or those named) and what they read, writes reports/notebooks/<name>.html. No stage of dvc.yaml:
compare_runs reads MLflow's runs, which are no dependency that DVC could know. A page needs no network.
"""

import argparse
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from stages.system import errors
from stages.system.files import atomic

# nbconvert's page without the scripts for formulas, widgets and diagrams, of another site; no notebook has any
TEMPLATE = "{% extends 'lab/index.html.j2' %}" + "".join(
    f"{{% block html_head_js_{script} %}}{{% endblock %}}" for script in ("requirejs", "mathjax", "mermaidjs")
)
NOTEBOOKS, PAGES = Path("notebooks"), Path("reports/notebooks")


def execute(path: Path) -> nbformat.NotebookNode:
    """The notebook with its outputs. Raises `InputError` where a cell fails."""
    book = nbformat.read(path, nbformat.NO_CONVERT)
    try:
        return NotebookClient(
            book, timeout=600, resources={"metadata": {"path": str(path.parent)}}, extra_arguments=["--log-level=ERROR"]
        ).execute()
    except CellExecutionError as error:
        raise errors.InputError(f"{path}: {error.ename}: {error.evalue}") from error


def main(names: list[str]) -> None:
    known = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    unknown = [f"no notebook {name}" for name in names if name not in known]
    errors.refuse(unknown, str(NOTEBOOKS), f"There are {', '.join(known)}.")
    try:
        from nbconvert import HTMLExporter
    except ImportError:
        raise errors.InputError("nbconvert is not installed: make notebooks installs it and makes the pages.") from None
    exporter = HTMLExporter(raw_template=TEMPLATE, exclude_input_prompt=True, exclude_output_prompt=True)
    PAGES.mkdir(parents=True, exist_ok=True)
    for name in names or known:
        print(f"executing {name} …", file=sys.stderr, flush=True)
        page, _ = exporter.from_notebook_node(execute(NOTEBOOKS / f"{name}.ipynb"), {"metadata": {"name": name}})
        with atomic(PAGES / f"{name}.html") as temporary:
            temporary.write_text(page, encoding="utf-8")
        print(PAGES / f"{name}.html")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", help="names of notebooks; all if none is given")
    arguments = parser.parse_args()
    errors.run(lambda: main(arguments.notebooks))
