"""`make verify` finds what DVC and git do not notice, and what it says to do restores it."""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from conftest import Project, preloaded_python
from dvc.cli import main as dvc
from dvc.repo import Repo

from stages import verify
from stages.system.errors import InputError
from stages.system.files import digest
from stages.verification import contents

CACHE = Path(".dvc/cache/files/md5")
SOUND = "all is as recorded: "


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Project:
    """A toy project that `dvc repro` has made, and that is committed."""
    project = Project(tmp_path_factory.mktemp("verify"))
    project.change("params/recipes/tiny.yaml", "epochs: 4", "epochs: 1")
    project.change("params/recipes/tiny.yaml", "milestones: [3]", "milestones: []")
    project.run("git", "init", "-q")
    project.stage("check")
    with at(project):
        Repo.init().close()
        assert dvc(["config", "core.analytics", "false"]) == 0
        assert dvc(["repro", "-q"]) == 0
    project.run("git", "add", "-A")
    project.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "made")
    return project


@contextmanager
def at(project: Project) -> Iterator[None]:
    """The project as the working directory, with its environment; stages start without their imports."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        for name, value in project.environment.items():
            patch.setenv(name, value)
        patch.setenv("PATH", f"{preloaded_python()}{os.pathsep}{project.environment['PATH']}")
        yield


@pytest.fixture
def here(made) -> Iterator[Project]:
    with at(made):
        yield made


def flip(*paths: Path | str, at: int | None = None) -> None:
    """One bit, in the middle or at a byte, as a disk does it: size, time and inode stay."""
    for path in map(Path, paths):
        before, data = path.stat(), bytearray(path.read_bytes())
        data[len(data) // 2 if at is None else at] ^= 1
        path.chmod(0o644)
        with open(path, "r+b") as file:
            file.write(data)
        path.chmod(before.st_mode)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def object_of(path: str) -> Path:
    """The object in DVC's cache of a file, or of a folder that is an out."""
    if Path(path).is_file():
        md5 = digest(Path(path), "md5")
    else:
        stages = yaml.safe_load(Path("dvc.lock").read_text())["stages"].values()
        md5 = next(out["md5"] for stage in stages for out in stage["outs"] if out["path"] == path)
    return CACHE / md5[:2] / md5[2:]


def found() -> str:
    """What verify says of what differs."""
    with pytest.raises(InputError) as error:
        verify.main()
    return str(error.value)


def remedies(message: str) -> list[str]:
    return [line.strip() for line in message.partition("To restore what differs, in this order:\n")[2].splitlines()]


def follow(commands: list[str]) -> None:
    """Run printed commands word for word; dvc's in this process, by the function that `dvc` calls."""
    for command in commands:
        for part in command.split(" && "):
            words = shlex.split(part)
            if words[0] == "dvc":
                assert dvc(words[1:]) == 0, part
            else:
                subprocess.run(["bash", "-c", part], check=True)


def is_sound(capsys) -> bool:
    capsys.readouterr()
    verify.main()
    return capsys.readouterr().out.startswith(SOUND)


def test_all_that_is_sound_is_told_in_one_line(here, capsys):
    verify.main()
    printed = capsys.readouterr().out
    assert printed.startswith(SOUND)
    assert printed.count("\n") == 1
    assert " 55 images and annotation files, 1 results" in printed, "52 images and three CSV files"
    assert printed.endswith("not at hand: 0\n")
    assert subprocess.run(["git", "status", "--porcelain"], capture_output=True).stdout == b"", "nothing is written"


CROP, SCHEME, WEIGHTS = "data/crops/toy/test.npy", "data/schemes/toy.json", "models/toy-tiny/model.safetensors"
METRICS, FACES = "reports/experiments/toy-tiny/metrics.json", "reports/experiments/toy-tiny/faces.csv"


RECIPE, RESULTS = "params/recipes/tiny.yaml", "reports/results.md"


def test_files_that_changed_with_their_time_kept_and_one_too_many_or_too_few_are_restored(here, capsys):
    guarded_by_git = [METRICS, FACES, RESULTS, "models/random", "stages/data/nme.py"]
    files = [CROP, SCHEME, WEIGHTS, *guarded_by_git]
    flip(*files)
    with Repo() as repo:
        assert repo.status() == {}, "DVC notices nothing"
    flip(RECIPE, "params/pipeline.yaml")
    more, fewer = Path("data/training/toy-tiny/more.csv"), Path("data/training/toy-tiny/history.csv")
    more.write_bytes(b"more")
    fewer.unlink()
    message = found()
    assert all(f"  - {path} differs from its record" in message for path in [*files, RECIPE, more, fewer])
    from_git, from_cache = remedies(message)
    assert set(shlex.split(from_git)) >= {*guarded_by_git, RECIPE, "params/pipeline.yaml"}
    removed, checkout = from_cache.split(" && ")
    assert set(removed.split()) == {"rm", "-rf", SCHEME, CROP, WEIGHTS, str(more), str(fewer)}
    assert checkout == f"dvc checkout {SCHEME} data/crops/toy models/toy-tiny data/training/toy-tiny"
    follow(remedies(message))
    assert is_sound(capsys)


@pytest.mark.parametrize("file", ["dvc.yaml", "params/resolved.yaml"])
def test_a_description_of_the_pipeline_that_dvc_cannot_read_comes_from_git(here, capsys, file):
    Path(file).write_bytes(b"\0" + Path(file).read_bytes()[1:])
    message = found()
    assert f"  - {file} differs from its record" in message
    assert remedies(message) == [f"rm -f {file} && git restore {file}"]
    follow(remedies(message))
    assert is_sound(capsys)


def test_a_pipeline_that_says_something_else_than_what_was_run_is_noticed(here, capsys):
    here.change("dvc.yaml", "python -m stages.preprocess", "python -u -m stages.preprocess")
    here.change("dvc.yaml", "        - stages/detect.py\n", "        - stages/detect.py\n        - stages/ui.py\n")
    message = found()
    assert "  - the command of preprocess@toy in dvc.yaml is not in dvc.lock" in message
    assert "  - stages/ui.py of detect@toy in dvc.yaml is not in dvc.lock" in message
    assert remedies(message) == ["dvc repro preprocess@toy detect@toy"]
    here.run("git", "restore", "dvc.yaml")
    assert is_sound(capsys)


def test_objects_of_the_cache_are_made_again_of_the_sound_outs(here, capsys):
    listed = "data/training/toy-tiny"
    damaged = {object_of(SCHEME): SCHEME, object_of(CROP): "data/crops/toy", object_of(listed): listed}
    missing = {object_of("data/detections/toy.json"): "data/detections/toy.json", object_of(WEIGHTS): "models/toy-tiny"}
    before = {path: path.read_bytes() for path in damaged | missing}
    flip(*damaged)
    for path in missing:
        path.unlink()
    message = found()
    for path, out in (damaged | missing).items():
        assert f"  - {path}, of {out} in DVC's cache, is {'damaged' if path in damaged else 'missing'}" in message
    (command,) = remedies(message)
    removed, commit = command.split(" && ")
    assert set(removed.split()) == {"rm", "-f", *map(str, damaged)}
    assert set(commit.split()) == {"dvc", "commit", *(damaged | missing).values()}
    follow([command])
    assert {path: path.read_bytes() for path in before} == before
    assert is_sound(capsys)


def test_an_out_that_is_damaged_in_the_cache_too_is_made_again_by_its_stage(here, capsys):
    listed, stored, before = object_of("data/crops/toy"), object_of(CROP), Path(CROP).read_bytes()
    flip(CROP, listed)
    assert remedies(found()) == [f"rm -rf data/crops/toy {listed}", "dvc repro preprocess@toy"]
    flip(listed, stored)
    damaged = [WEIGHTS, object_of("data/training/toy-tiny"), METRICS, "stages/data/crops.py", object_of(SCHEME)]
    flip(*damaged)
    message = found()
    assert all(f"  - {path}" in message for path in (CROP, *damaged))
    assert remedies(message)[2:4] == [f"rm -rf {CROP} {stored}", "dvc repro preprocess@toy"]
    follow(remedies(message))
    assert Path(CROP).read_bytes() == before
    assert is_sound(capsys)


def test_code_that_was_changed_on_purpose_is_named_with_both_ways_back(here, capsys):
    file = Path("stages/obtain.py")
    text = file.read_text()
    file.write_text(text + "# more\n")
    assert remedies(found()) == [f"rm -f {file} && git restore {file}"]
    here.run("git", "add", str(file))
    message = found()
    assert f"  - {file} is not what was read by obtain@toy" in message
    assert remedies(message) == ["dvc repro obtain@toy"]
    file.write_text(text)
    assert Repo().status() == {}
    flip(file, at=text.index("See that"))
    here.run("git", "add", str(file))
    message = found()
    assert remedies(message) == [f"find {file} -type f -exec touch {{}} +", "dvc repro obtain@toy"], "DVC sees nothing"
    follow(remedies(message))
    assert is_sound(capsys)
    here.run("git", "restore", "--staged", "--worktree", str(file), "dvc.lock")
    assert is_sound(capsys)


def test_results_that_are_not_committed_are_made_again(here, capsys):
    here.run("git", "rm", "-q", "--cached", METRICS)
    flip(METRICS)
    message = found()
    assert remedies(message) == [f"rm -rf {METRICS}", "dvc repro evaluate@toy-tiny"]
    follow(remedies(message))
    here.run("git", "reset", "-q")
    assert is_sound(capsys)


def test_the_resolved_parameters_are_written_again_where_git_has_none(here, capsys):
    resolved = "params/resolved.yaml"
    here.run("git", "rm", "-q", "--cached", resolved)
    flip(resolved, at=2)  # in the comment, so that DVC reads it
    message = found()
    assert f"  - {resolved} differs from its record" in message
    assert remedies(message) == ["python -m stages.check && dvc repro resolve"]
    follow(remedies(message))
    here.run("git", "reset", "-q")
    assert is_sound(capsys)


def test_an_image_is_named_by_the_checksum_that_fetch_recorded(here, capsys):
    image = Path("data/toy/images/train3.png")
    sound = image.read_bytes()
    flip(image)
    message = found()
    assert "1 fault\n" in message
    assert f"  - {image} differs from its SHA-256 in data/raw/toy/checksums.csv" in message
    assert remedies(message)[0].startswith(f"put {image} back from where you got it; if it was changed on purpose, ")
    image.write_bytes(sound)
    assert is_sound(capsys)


def test_a_changed_entry_of_the_lock_file_is_told_from_a_changed_out(here, capsys):
    lock, md5 = Path("dvc.lock"), digest(Path(SCHEME), "md5")
    lock.write_text(lock.read_text().replace(md5, md5[::-1]))
    message = found()
    assert f"  - dvc.lock was changed: that of the last commit has what {SCHEME} holds" in message
    assert remedies(message) == ["rm -f dvc.lock && git restore dvc.lock"]
    follow(remedies(message))
    assert is_sound(capsys)


def test_damage_of_dvcs_own_files_names_the_command_that_mends_them(here, capsys):
    lock, table = Path("dvc.lock"), Path(".dvc/tmp/rwlock")
    whole = lock.read_text()
    table.write_text('{"read": {"a": [{"pid": 1, "c')
    message = found()
    assert f"{table}, DVC's table of who reads and writes what, is damaged" in message
    for text in (
        "",
        "schema:",
        "\0" * 99,
        whole[:-1],
        whole[: whole.rindex("    outs:")],
        whole.replace("md5:", "md6:"),
    ):
        lock.write_text(text)
        message = found()
        assert message.startswith("dvc.lock is damaged")
    subprocess.run(message.partition("To mend it: ")[2], shell=True, check=True)
    assert is_sound(capsys)
    lock.unlink()
    message = found()
    subprocess.run(message.partition("To restore it: ")[2], shell=True, check=True)
    assert lock.read_text() == whole


def test_a_fresh_clone_and_an_empty_cache_are_no_fault(here, capsys, tmp_path, monkeypatch):
    os.rename(".dvc/cache", ".dvc/cache.tmp")
    try:
        assert is_sound(capsys)
    finally:
        os.rename(".dvc/cache.tmp", ".dvc/cache")
    subprocess.run(["git", "clone", "-q", here.folder, tmp_path / "clone"], check=True)
    monkeypatch.chdir(tmp_path / "clone")
    verify.main()
    printed = capsys.readouterr().out
    assert printed.startswith(SOUND)
    assert " 0 objects of DVC's cache, 0 images" in printed
    assert not printed.endswith("not at hand: 0\n")
    flip(METRICS)
    os.unlink("stages/train.py")
    message = found()
    assert "  - stages/train.py is missing" in message
    follow(remedies(message))
    assert is_sound(capsys)


def test_data_that_dvc_tracks_comes_from_the_remote_where_there_is_one(here, capsys, tmp_path):
    Path("data/more").mkdir()
    Path("data/more/a.csv").write_text("1,2,3")
    Path("data/more/b.csv").write_text("4,5,6")
    try:
        assert dvc(["add", "-q", "data/more"]) == 0
        stored = object_of("data/more/a.csv")
        assert dvc(["remote", "add", "-q", "--local", "-d", "storage", str(tmp_path)]) == 0
        assert dvc(["push", "-q", "data/more"]) == 0
        flip("data/more/a.csv", stored, CROP, object_of(CROP))
        os.rename(".dvc/config.local", ".dvc/config.tmp")
        assert remedies(found())[0] == "copy the files that data/more.dvc tracks again from where you got them"
        os.rename(".dvc/config.tmp", ".dvc/config.local")
        message = found()
        assert remedies(message)[1:] == ["dvc pull data/more.dvc", "dvc repro --pull preprocess@toy"]
        follow(remedies(message))
        assert Path("data/more/a.csv").read_text() == "1,2,3"
        assert is_sound(capsys), "what was never pushed is made again"
    finally:
        shutil.rmtree("data/more")
        for file in ("data/more.dvc", ".dvc/config.local"):
            Path(file).unlink(missing_ok=True)


def test_a_published_result_outside_the_pipeline_is_compared_with_the_model_at_hand(here, capsys):
    result, model = Path("reports/experiments/other"), Path("models/other")
    shutil.copytree("reports/experiments/toy-tiny", result)
    shutil.copytree("models/toy-tiny", model)
    try:
        made = json.loads((result / "provenance.json").read_text())
        made |= {"name": "other", "experiment": "other"}
        made["hashes"] |= {"code": "0" * 32}
        (result / "provenance.json").write_text(json.dumps(made))
        follow(["dvc commit -q --force report", "dvc commit -q --force explore@toy"])
        capsys.readouterr()
        verify.main()
        note = capsys.readouterr().out.splitlines()[0]
        assert note.startswith("note: other is not in the pipeline and was made by other code: git log -1 -- ")
        flip(model / "model.safetensors")
        message = found()
        assert "is not what reports/experiments/other/provenance.json says the result was made of" in message
        assert "put back the models/other/model.safetensors with the MD5 " in remedies(message)[0]
        shutil.rmtree(result)
        follow(["git restore dvc.lock"])
        message = found()
        assert "models/other/model.safetensors differs from its SHA-256 in models/other/model.json" in message
        assert remedies(message) == ["copy the model models/other again from where you got it"]
    finally:
        shutil.rmtree(model)
        shutil.rmtree(result, ignore_errors=True)
        follow(["git restore dvc.lock"])
    assert is_sound(capsys)


def test_a_result_that_says_it_was_made_of_another_model_is_measured_again(here, capsys):
    here.change("reports/experiments/toy-tiny/provenance.json", digest(Path(WEIGHTS), "md5"), "0" * 32)
    follow(["dvc commit -q --force evaluate@toy-tiny", "dvc repro -q report explore@toy"])
    message = found()
    assert f"  - {WEIGHTS} is not what reports/experiments/toy-tiny/provenance.json says" in message
    assert remedies(message) == ["dvc repro --force --single-item evaluate@toy-tiny && dvc repro"]
    follow(remedies(message))
    assert is_sound(capsys)


def test_a_file_that_the_disk_cannot_read_is_one_that_differs(here, capsys, monkeypatch):
    def failing(path, algorithm):
        if path == Path(CROP):
            raise OSError(5, "Input/output error")
        return digest(path, algorithm)

    monkeypatch.setattr(contents, "digest", failing)
    assert remedies(found()) == [f"rm -rf {CROP} && dvc checkout data/crops/toy"]
    monkeypatch.undo()
