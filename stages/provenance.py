"""What made a result: hashes of data, parameters and code, and the machine's traits that its last bits depend on."""

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from stages import params

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


@dataclass(frozen=True)
class Identity:
    """What an experiment is, for its MLflow run: more than either train or evaluate depends on."""

    experiment: str
    dataset: str
    recipe: str
    hashes: Mapping[str, str]  # of its data, all of its parameters, and the code of train and evaluate
    parameters: Mapping[str, object]

    @property
    def fingerprint(self) -> str:
        """One name for all of it; the run is found by it."""
        return short_hash([self.experiment, dict(self.hashes)])

    def tags(self) -> dict[str, str]:
        return {"dataset": self.dataset, "recipe": self.recipe, **self.hashes}


def identify(name: str) -> Identity:
    """The identity of an experiment as params/, data/crops and the code are now. Raises `InputError` as `params`."""
    experiment = params.experiment(name)
    parameters = params.whole_recipe(experiment.recipe, experiment.dataset)
    landmarks = params.whole_dataset(experiment.dataset)
    made_of = {
        "data": dvc_hash(Path("data/crops") / experiment.dataset),
        "params": short_hash([landmarks, parameters]),
        "code": code_hash("train", "evaluate"),
    }
    shown = {section: landmarks[section] for section in ("source", "crops", "normalisers")}
    return Identity(name, experiment.dataset, experiment.recipe, made_of, parameters | shown)


def but_for_the_seed(name: str) -> str:
    """A hash of an experiment's parameters without its seed: experiments that differ in nothing else are a series."""
    experiment = params.experiment(name)
    recipe = params.whole_recipe(experiment.recipe, experiment.dataset)
    recipe["train"] = {key: value for key, value in recipe["train"].items() if key != "seed"}
    return short_hash([experiment.dataset, params.whole_dataset(experiment.dataset), recipe])
