"""Compare every file of the pipeline with what was recorded of it; say what differs, and how to restore it.

    python -m stages.verify

Everything is read in full: DVC and git believe a file's size and time, so neither finds bits that flipped on a disk, or
a damaged file in DVC's cache. Compared are outs, sources, code and cache with dvc.lock and the .dvc files, what results
were made of with reports/experiments/*/provenance.json, images with the SHA-256 that fetch recorded, and weights with
that of their model.json. What is not at hand, as in a fresh clone, is counted and is no fault. Ends with 1 where
anything differs.
"""

import argparse
import os
import shlex
import subprocess
from collections import defaultdict
from functools import cached_property
from pathlib import Path

from dvc.dependency import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo

from stages.config.experiment import load_dataset
from stages.config.pipeline import RESULTS, read_pipeline
from stages.config.resolved import FILE as RESOLVED
from stages.system import errors
from stages.system.errors import InputError
from stages.tracking.dvc_files import LOCK, MEND, committed_hashes, require_readable
from stages.verification import fingerprints
from stages.verification.contents import Contents, changed_since_git, hash_files, md5_in_git
from stages.verification.differences import Differences
from stages.verification.objects import CachedOut

PIPELINE = (Path("dvc.yaml"), Path("params"))  # what DVC reads first


def touches(one: Path, other: Path) -> bool:
    """Whether two paths are the same, or one lies in the other."""
    return one == other or one in other.parents or other in one.parents


class Verification:
    """One comparison of the working directory; repo: DVC's."""

    def __init__(self, repo):
        self.differences = Differences()
        self.has_remote, cache = bool(repo.config["remote"]), Path(os.path.relpath(repo.cache.local.path))
        self.outs: list[CachedOut] = []
        self.deps: dict[Path, list] = defaultdict(list)  # (stage, recorded hash, DVC's dependency)
        self.parameters: list[tuple] = []
        self.not_at_hand: set[Path] = set()
        for stage in repo.index.stages:
            self.require_declared(stage)
            for out in stage.outs:
                if out.hash_info and out.hash_name == "md5" and out.protocol == "local":
                    cached = CachedOut(Path(str(out)), stage.addressing, out.hash_info.value, cache, out.use_cache)
                    self.outs.append(cached)
            for dep in stage.deps:
                if isinstance(dep, ParamsDependency):
                    self.parameters.append((stage, dep))
                elif dep.hash_info and dep.hash_name == "md5" and dep.protocol == "local":
                    self.deps[Path(str(dep))].append((stage.addressing, dep.hash_info.value, dep))
        self.results = fingerprints.read_results(RESULTS)
        self.made_of = fingerprints.result_fingerprints(self.results, RESULTS)
        paths = [out.path for out in self.outs] + [made.path for made in self.made_of]
        self.objects = {path: md5 for out in self.outs for path, md5 in out.objects().items()}
        self.contents = Contents([*paths, *self.deps], self.objects)
        self.in_cache = any(path in self.contents.md5 for path in self.objects)

    @cached_property
    def former(self) -> dict[tuple[str, str], str]:
        return committed_hashes()

    def require_declared(self, stage) -> None:
        """What dvc.yaml says of a stage that has run is what dvc.lock says."""
        entries = [entry for entry in (*stage.deps, *stage.outs) if not isinstance(entry, ParamsDependency)]
        unknown = [str(entry) for entry in entries if not entry.hash_info]
        if getattr(stage, "cmd_changed", False) or (unknown and len(unknown) < len(entries)):
            what = f"{', '.join(unknown)} of" if unknown else "the command of"
            self.differences.add(stage.addressing, f"{what} {stage.addressing} in dvc.yaml is not in {LOCK}")
            self.differences.remake.append(stage.addressing)

    def is_sound(self, path: Path) -> bool:
        """Whether an object is there and holds what it should."""
        return self.contents.md5.get(path) == self.objects[path]

    def is_differing(self, path: Path) -> bool:
        return any(touches(Path(other), path) for other in self.differences.sentences)

    def remake(self, stage: str, *lost: Path) -> None:
        """Have DVC make again what a stage makes, or get it where no stage makes it."""
        self.differences.lost += lost
        if not stage.endswith(".dvc"):
            self.differences.remake.append(stage)
        elif self.has_remote:
            self.differences.pull.append(stage)
        else:
            self.differences.by_hand.append(f"copy the files that {stage} tracks again from where you got them")

    def is_lock_at_fault(self, stage: str, path: Path, now: str | None) -> bool:
        """Whether the dvc.lock of the last commit has the content that is there; then it is what was changed."""
        if now is None or self.former.get((stage, path.as_posix())) != now:
            return False
        self.differences.add(LOCK, f"{LOCK} was changed: that of the last commit has what {path} holds")
        if LOCK not in self.differences.from_git:
            self.differences.from_git.append(LOCK)
        return True

    def compare_out(self, out: CachedOut) -> None:
        now, objects = self.contents.hash(out.path), out.objects()
        bad = [path for path in objects if path in self.contents.md5 and not self.is_sound(path)]
        for path in bad:
            self.differences.add(path, f"{path}, of {out.path} in DVC's cache, is damaged")
        missing = [path for path in objects if path not in self.contents.md5]
        if now is None and not (out.cached or not changed_since_git(out.path)):
            self.differences.restore_from_git(changed_since_git(out.path))
        elif now is None:
            self.not_at_hand.add(out.path)
            self.differences.useless += bad
        elif now != out.md5:
            if not self.is_lock_at_fault(out.stage, out.path, now):
                self._restore_out(out, bad, missing)
        elif not out.cached:
            self.differences.useless += bad
        elif not self.in_cache:
            self.not_at_hand |= set(missing)
        elif bad or missing:
            for path in missing:
                self.differences.add(path, f"{path}, of {out.path} in DVC's cache, is missing")
            self.differences.damaged_objects += bad
            self.differences.commit.append(str(out.path))

    def _restore_out(self, out: CachedOut, bad: list[Path], missing: list[Path]) -> None:
        """Of an out in the workspace that differs."""
        changed, files = [], out.files() if self.is_sound(out.object()) else None
        if out.md5.endswith(".dir") and out.path.is_dir() and files is not None:
            now = self.contents.listing(out.path)
            changed = [out.path / name for name in sorted(now | files) if now.get(name) != files.get(name)]
        for path in changed or [out.path]:
            self.differences.add(path, f"{path} differs from its record in {out.stage.removesuffix('.dvc')}")
        if out.cached and files is not None and not bad and not missing:
            self.differences.damaged_outs += changed or [out.path]
            self.differences.checkout.append(str(out.path))
            return
        if out.path == RESOLVED:  # DVC reads nothing without it
            self.differences.resolve.append(out.stage)
            return
        in_git = [] if out.cached else changed_since_git(out.path)
        if in_git and self.contents.hash(out.path, {file: md5_in_git(file) for file in in_git}) == out.md5:
            self.differences.sentences.pop(str(out.path), None)
            self.differences.restore_from_git(in_git)
            self.differences.useless += bad
        else:
            self.remake(out.stage, *(changed or [out.path]), *bad)

    def compare_dependency(self, path: Path) -> None:
        now, recorded = self.contents.hash(path), self.deps[path]
        others = [record for record in recorded if record[1] != now]
        if not others:
            return
        covered = [out.path for out in self.outs if touches(out.path, path)]
        changed = [file for file in changed_since_git(path) if not any(touches(file, out) for out in covered)]
        if now is None and not changed:
            self.not_at_hand.add(path)
            return
        others = [record for record in others if not self.is_lock_at_fault(record[0], path, now)]
        if not others:
            return
        restored = self.contents.hash(path, {file: md5_in_git(file) for file in changed})
        differing = self.is_differing(path)
        if changed and (differing or all(md5 == restored for _, md5, _ in others)):
            self.differences.restore_from_git(changed)
            return
        if differing:  # its outs, or its images
            return
        stages = ", ".join(stage for stage, _, _ in others[:3]) + (f" and {len(others) - 3} more" * (len(others) > 3))
        self.differences.add(path, f"{path} is not what was read by {stages}")
        if not covered and not _in_git(path):
            self.by_hand(path)
            return
        self.differences.remake += [stage for stage, _, _ in others]
        if not all(dep.changed_checksum() for _, _, dep in others):
            self.differences.unnoticed.append(path)

    def by_hand(self, path: Path) -> None:
        """Of data that neither DVC nor git can restore."""
        self.differences.by_hand.append(
            f"put {path} back from where you got it; if it was changed on purpose, have it read again: "
            f"find {shlex.quote(str(path))} -type f -exec touch {{}} + && dvc repro"
        )

    def compare_parameters(self) -> None:
        for stage, dep in self.parameters:
            try:
                differs = dep.hash_info and dep.status()
            except DvcException:  # a damaged file
                differs = True
            if differs and not self.is_differing(Path(str(dep))):
                self.differences.add(f"{dep}, {stage.addressing}", f"{dep} is not what {stage.addressing} ran with")
                self.differences.remake.append(stage.addressing)

    def compare_images(self) -> int:
        """How many were compared."""
        images = [
            image for name in read_pipeline().datasets
            for image in fingerprints.image_fingerprints(load_dataset(name, "source"))
        ]  # fmt: skip
        sha256 = hash_files([image.path for image in images], "sha256", "hashing images")
        for image in images:
            if sha256.get(image.path) == image.digest:
                continue
            if self.is_differing(image.path) or self.is_differing(image.recorded_in):
                continue
            what = "differs from" if image.path in sha256 else "is missing; see"
            self.differences.add(image.path, f"{image.path} {what} its SHA-256 in {image.recorded_in}")
            if not _in_git(image.path):
                self.by_hand(image.path)
        return len(sha256)

    def compare_results(self) -> None:
        """What results at hand were made of, and the weights of models that DVC does not know."""
        for made in self.made_of:
            now = self.contents.hash(made.path)
            if now is None:
                self.not_at_hand.add(made.path)
            elif now != made.digest and not self.is_differing(made.path) and not self.is_differing(made.recorded_in):
                self.not_made_of(made)
        weights = list(fingerprints.weight_fingerprints())
        sha256 = hash_files([made.path for made in weights], "sha256", "hashing weights")
        for made in weights:
            if made.path in sha256 and sha256[made.path] != made.digest and not self.is_differing(made.path):
                self.differences.add(made.path, f"{made.path} differs from its SHA-256 in {made.recorded_in}")
                self.differences.by_hand.append(f"copy the model {made.path.parent} again from where you got it")

    def not_made_of(self, made: fingerprints.Fingerprint) -> None:
        self.differences.add(made.path, f"{made.path} is not what {made.recorded_in} says the result was made of")
        stage = next((out.stage for out in self.outs if out.path == made.recorded_in), None)
        if stage:
            self.differences.measure_again.append(stage)
        else:
            name = made.recorded_in.parent.name
            self.differences.by_hand.append(
                f"put back the {made.path} with the MD5 {made.digest}, or list {name} in params/pipeline.yaml and "
                "make it again: dvc repro"
            )

    def run(self) -> str:
        """Compare everything; the summary. Raises `InputError` where anything differs."""
        for out in self.outs:
            self.compare_out(out)
        images, refused = 0, None
        try:
            images = self.compare_images()
        except InputError as error:  # a damaged file of params, which is compared next
            refused = error
        for path in self.deps:
            self.compare_dependency(path)
        self.compare_parameters()
        self.compare_results()
        self.differences.refuse(self.has_remote)
        if refused:
            raise refused
        objects = sum(path in self.contents.md5 for path in self.objects)
        return (
            f"all is as recorded: {len(self.contents.md5) - objects} files, {objects} objects of DVC's cache, {images} "
            f"images and annotation files, {len(self.results)} results, {self.contents.bytes_read() / 1e6:.1f} MB; "
            f"not at hand: {len(self.not_at_hand)}"
        )


def _in_git(path: Path) -> bool:
    return bool(subprocess.run(["git", "ls-files", "--", str(path)], capture_output=True).stdout)


def main() -> None:
    require_readable()
    try:
        with Repo() as repo:
            verification = Verification(repo)
            summary = verification.run()
    except DvcException as error:
        differences = Differences()
        differences.restore_from_git([file for path in PIPELINE for file in changed_since_git(path)])
        differences.refuse(has_remote=False)
        raise InputError(f"DVC cannot read the pipeline: {error}. See what is wrong: {MEND}") from error
    listed = {out.path for out in verification.outs}
    unlisted = {
        name: made for name, made in verification.results.items() if RESULTS / name / "metrics.json" not in listed
    }
    for name in fingerprints.of_other_code(unlisted):
        print(f"note: {name} is not in the pipeline and was made by other code: git log -1 -- {RESULTS / name}")
    print(summary)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    errors.run(main)
