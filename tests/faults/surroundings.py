"""`make repro` without a home, with few file descriptors, little memory or disk, in an odd folder or locale."""

import os
import random
import shutil
import subprocess

from conftest import Project

from tests.faults.toy import TIMEOUT, Outcome, Toy, outcome

NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
SHELL = ["sh", "-c"]
RUN = '"$@"'
# The disk of 24 MB has the checkout in it; what it holds in the end is copied out.
SMALL_DISK = 'mount -t tmpfs -o size=24m tmpfs "$SMALL" && cp -a . "$SMALL" && cd "$SMALL" && "$@"; status=$?; '
SMALL_DISK += 'cd "$OLDPWD" && cp -a "$SMALL/." .; exit $status'
ODD = "Prüf stand"
# what it is: shell script that runs the command "$@", variables, variables that go
KINDS: dict[str, tuple[list[str], str, dict[str, str], tuple[str, ...]]] = {
    "no HOME": (SHELL, RUN, {}, ("HOME",)),
    "read-only HOME": (
        NAMESPACE, 'mount -t tmpfs -o ro tmpfs "$SMALL" && export HOME="$SMALL" && "$@"', {}, ("XDG_CACHE_HOME",),
    ),
    "LC_ALL=C": (SHELL, RUN, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, ("LANG", "LC_CTYPE")),
    "a blank and an umlaut in the path": (SHELL, RUN, {}, ()),
    "umask 077": (SHELL, 'umask 077; "$@"', {}, ()),
    "64 file descriptors": (SHELL, 'ulimit -n 64; "$@"', {}, ()),
    "1 GB of address space": (SHELL, 'ulimit -v 1048576; "$@"', {}, ()),
    "a disk of 24 MB": (NAMESPACE, SMALL_DISK, {}, ()),
}  # fmt: skip


def may_mount() -> bool:
    """Whether this machine lets a program mount a disk of its own."""
    if not shutil.which("unshare"):
        return False
    with_disk = [*NAMESPACE, "mount -t tmpfs tmpfs /mnt"]
    return subprocess.run(with_disk, capture_output=True).returncode == 0


def one(toy: Toy, rng: random.Random, number: int) -> Outcome | None:
    names = list(KINDS)
    return inject(toy, names[3 * number % len(names)], *toy.any_point(rng))


def inject(toy: Toy, name: str, stage: str, before: Project) -> Outcome | None:
    """`make repro` with every process in such surroundings, then without; None where this machine cannot make them."""
    shell, script, more, less = KINDS[name]
    if shell is NAMESPACE and not may_mount():
        return None
    with toy.copied(before, ODD if "umlaut" in name else "toy") as project:
        small = project.folder.parent / "small"
        small.mkdir()
        changed = project.at(project.folder)
        environment = project.environment | more | {"SMALL": str(small)}
        changed.environment = {key: value for key, value in environment.items() if key not in less}
        process = changed.start(*shell, script, "sh", "make", "repro")
        printed, _ = process.communicate(timeout=TIMEOUT)
        wrong = ""
        if not process.returncode and (differing := toy.differing(project)):
            wrong = f"it ended well with other results: {', '.join(differing)}"
        recovered, again = toy.recover(project)
        os.chmod(project.folder, 0o755)
        fault = f"{name}, before {stage}"
        return outcome(
            "surroundings", fault, process.returncode, printed, again=again, recovered=recovered, wrong=wrong
        )
