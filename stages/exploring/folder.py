"""The explorer of a dataset: a folder of pages, pictures and data that a browser opens from disk."""

import html
import shutil
from collections.abc import Sequence
from pathlib import Path

from stages.exploring import content
from stages.exploring.methods import Method
from stages.exploring.pictures import write_pictures
from stages.exploring.windows import Windows
from stages.system.files import atomic_folder

PAGE = Path(__file__).parent / "page"
FILES = ("explorer.css", "data.js", "draw.js", "grid.js", "face.js", "app.js")


def write_explorer(folder: Path, summary: dict, shown: Windows, methods: Sequence[Method]) -> None:
    """Write it, whole or not at all; the same bytes for the same input."""
    scripts = {"summary": content.summary_script(summary)}
    scripts["truth"] = content.points_script("truth", shown.faces.landmarks, shown)
    for i, method in enumerate(methods):
        scripts[str(i)] = content.points_script(method.name, method.points, shown, method.expected)
    page = (PAGE / "index.html").read_text(encoding="utf-8").replace("{title}", html.escape(summary["title"]))
    with atomic_folder(folder) as out:
        (out / "index.html").write_text(page, encoding="utf-8")
        for name in FILES:
            shutil.copyfile(PAGE / name, out / name)
        (out / "data").mkdir()
        for name, script in scripts.items():
            (out / "data" / f"{name}.js").write_text(script, encoding="ascii")
        if shown.images is not None:
            write_pictures(shown.images, shown.context, out)
