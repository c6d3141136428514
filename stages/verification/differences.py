"""What differs from its record, and the commands that restore it.

DVC believes a file's size, time and inode, and a write-protected object of its cache altogether: it takes damage that
keeps these for sound. So a damaged file is removed first; then DVC and git have to make it again.
"""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from stages.system.errors import refuse

MANY = 5  # stages that are named one by one


def _words(items: Iterable[object]) -> str:
    return " ".join(shlex.quote(str(item)) for item in dict.fromkeys(items))


@dataclass
class Differences:
    """sentences: what differs. The rest: what has to be done, in this order."""

    sentences: dict[str, str] = field(default_factory=dict)  # by path, so that each is named once
    by_hand: list[str] = field(default_factory=list)
    from_git: list[Path] = field(default_factory=list)
    resolve: list[str] = field(default_factory=list)  # the stage of params/resolved.yaml, which DVC cannot do without
    useless: list[Path] = field(default_factory=list)  # damaged objects that nothing needs
    damaged_outs: list[Path] = field(default_factory=list)  # files whose object in the cache is sound …
    checkout: list[str] = field(default_factory=list)  # … and the outs that they are of
    damaged_objects: list[Path] = field(default_factory=list)  # objects whose file in the workspace is sound …
    commit: list[str] = field(default_factory=list)
    lost: list[Path] = field(default_factory=list)  # damaged in both …
    pull: list[str] = field(default_factory=list)  # … of data that no stage makes
    unnoticed: list[Path] = field(default_factory=list)  # dependencies whose change DVC does not see
    remake: list[str] = field(default_factory=list)  # stages
    measure_again: list[str] = field(default_factory=list)  # stages that DVC has no reason to run

    def add(self, path: object, sentence: str) -> None:
        self.sentences.setdefault(str(path), sentence)

    def restore_from_git(self, files: Iterable[Path]) -> None:
        for file in files:
            self.add(file, f"{file} {'differs from its record' if file.exists() else 'is missing'}")
            self.from_git.append(file)

    def refuse(self, has_remote: bool) -> None:
        """Raise `InputError` with all that differs and what to do; nothing where nothing does."""
        todo = dict.fromkeys([*self.by_hand, *self.commands(has_remote)])
        remedy = "To restore what differs, in this order:\n" + "\n".join(f"  {line}" for line in todo)
        refuse(list(self.sentences.values()), "what is here and what is recorded differ", remedy)

    def commands(self, has_remote: bool) -> list[str]:
        """Shell commands, to be run in this order. has_remote: whether what is lost may be in a remote of DVC."""
        lines = []
        if self.from_git:
            lines.append(f"rm -f {_words(self.from_git)} && git restore {_words(self.from_git)}")
        if self.resolve:
            lines.append(f"python -m stages.check && dvc repro {_words(self.resolve)}")
        if self.useless:
            lines.append(f"rm -f {_words(self.useless)}")
        if self.checkout:
            lines.append(f"rm -rf {_words(self.damaged_outs)} && dvc checkout {_words(self.checkout)}")
        committed = len(lines)  # before a stage runs again only because of it, unless another's change stops the commit
        if self.lost:
            lines.append(f"rm -rf {_words(self.lost)}")
        if self.pull:
            lines.append(f"dvc pull {_words(self.pull)}")
        if self.unnoticed:
            lines.append(f"find {_words(self.unnoticed)} -type f -exec touch {{}} +")
        if self.remake:
            stages = _words(self.remake) if len(set(self.remake)) <= MANY else ""  # else all that changed
            lines.append(f"dvc repro {'--pull ' * has_remote}{stages}".rstrip())
        if self.measure_again:
            lines.append(f"dvc repro --force --single-item {_words(self.measure_again)} && dvc repro")
        if self.commit:
            remove = f"rm -f {_words(self.damaged_objects)} && " if self.damaged_objects else ""
            lines.insert(len(lines) if self.remake else committed, f"{remove}dvc commit {_words(self.commit)}")
        return lines
