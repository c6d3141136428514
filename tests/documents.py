"""A document whose shell blocks are run, each once and in reading order, and the clones that they are run in."""

import json
import re
import subprocess
import sys
import venv
from pathlib import Path
from tempfile import TemporaryFile

from conftest import outside_environment


class Document:
    """`blocks`: its shell blocks; `taken`: those that have been asked for; `yaml`: what it shows of YAML files."""

    def __init__(self, file: Path):
        self.text = file.read_text(encoding="utf-8")
        self.blocks = re.findall(r"^```sh\n(.*?)^```", self.text, re.MULTILINE | re.DOTALL)
        self.yaml = re.findall(r"^```yaml\n(.*?)^```", self.text, re.MULTILINE | re.DOTALL)
        self.taken: list[str] = []

    def block(self, start: str) -> str:
        """The one shell block with a line that begins so, which is run now."""
        found = [block for block in self.blocks if any(line.startswith(start) for line in block.splitlines())]
        assert len(found) == 1, f"{len(found)} blocks begin with {start}"
        self.taken.append(found[0])
        return found[0]


class Clone:
    """A fresh clone, and an environment for it."""

    def __init__(self, folder: Path, python: Path, document: Document):
        """python: the interpreter of its environment, whose packages are those of the tests."""
        self.folder, self.environment, self.block = folder, outside_environment(), document.block
        self.environment.pop("LANDMARKS_TRACKING", None)
        for who in ("AUTHOR", "COMMITTER"):
            self.environment |= {f"GIT_{who}_NAME": "t", f"GIT_{who}_EMAIL": "t@t"}
        venv.create(folder / ".venv", symlinks=True)
        (folder / ".venv/installed").touch()
        for name in ("python", "python3"):
            (folder / ".venv/bin" / name).unlink(missing_ok=True)
            (folder / ".venv/bin" / name).symlink_to(python)
        for program in Path(sys.executable).parent.iterdir():
            if not (folder / ".venv/bin" / program.name).is_symlink() and "ctivate" not in program.name:
                (folder / ".venv/bin" / program.name).symlink_to(program)

    def run(self, block: str, activated: bool = True) -> str:
        """What the lines of a block print; each has to succeed. activated: in the project's environment."""
        first = "source .venv/bin/activate\n" if activated else ""
        with TemporaryFile("w+") as output:  # a pipe would be open until the queue's worker ends
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", first + block], cwd=self.folder, env=self.environment,
                timeout=300, stdout=output, stderr=output,
            )  # fmt: skip
            output.seek(0)
            printed = output.read()
        assert done.returncode == 0, f"{block}\n{printed}"
        return printed

    def read(self, file: str) -> str:
        return (self.folder / file).read_text(encoding="utf-8")

    def results(self, name: str) -> dict:
        return json.loads(self.read(f"reports/experiments/{name}/metrics.json"))["test"]
