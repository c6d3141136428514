"""What made a result: hashes of data, parameters and code, and the machine's traits that its last bits depend on."""

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import torch
import yaml

LOCK = Path("constraints.txt")


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def dvc_hash(path: Path) -> str:
    """The hash that DVC gives a file or a folder: from dvc.lock in a stage that DVC runs, else computed in its way."""
    if os.environ.get("DVC_STAGE") and Path("dvc.lock").exists():
        # DVC has just checked or made the stage's deps, so its lock file is current and nothing need be read again
        for stage in (yaml.safe_load(Path("dvc.lock").read_text()) or {}).get("stages", {}).values():
            for out in stage.get("outs", []):
                if out["path"] == path.as_posix():
                    return out["md5"]
    if path.is_file():
        return _md5(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    listing = [{"md5": _md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    listing.sort(key=lambda entry: entry["relpath"])
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode()).hexdigest() + ".dir"


def short_hash(content: object) -> str:
    """A hash of plain values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32]


def code_hash(*stages: str) -> str:
    """One hash of the code that dvc.yaml declares for these stages."""
    declared = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]
    deps = {dep for stage in stages for dep in declared[stage].get("do", declared[stage])["deps"]}
    return short_hash({dep: _md5(Path(dep)) for dep in sorted(deps) if dep.startswith("stages/")})


def environment() -> dict[str, str | int]:
    """The four traits that a result's last bits depend on: locked packages, CPU model, threads, instruction-set cap."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = models[0] if models else cpu
    caps = {
        name: os.environ[name]
        for name in ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_CBWR")
        if name in os.environ
    }
    isa = torch.backends.cpu.get_cpu_capability() + "".join(f" {name}={value}" for name, value in caps.items())
    lock = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:32] if LOCK.exists() else "none"
    return {"lock": lock, "cpu": cpu, "threads": torch.get_num_threads(), "isa": isa}


def hashes(experiment: str, dataset: str, recipe: str) -> dict[str, str]:
    """What an experiment is made of, as one hash each: its data, all of its parameters, the code of train and evaluate.

    For its name in MLflow only: it reads whole files, more than either stage depends on.
    """
    files = (Path("params/datasets") / f"{dataset}.yaml", Path("params/recipes") / f"{recipe}.yaml")
    parameters = [experiment, *(yaml.safe_load(file.read_text(encoding="utf-8")) for file in files)]
    return {
        "data": dvc_hash(Path("data/crops") / dataset),
        "params": short_hash(parameters),
        "code": code_hash("train", "evaluate"),
    }


def fingerprint(made_of: Mapping[str, str]) -> str:
    """One name for all of `hashes`: the experiment's MLflow run is found by it."""
    return short_hash(dict(made_of))
