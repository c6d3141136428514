"""Measure exactness and speed on this machine: prints a table and writes reports/benchmarks.json.

    python -m tests.bench

Each group of figures has a process of its own, so that none is measured with another's threads or memory. Samples and
annotations are looked for beside the project (../shared); where they are not, what needs them is left out and said.
"""

import importlib
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench import measure

GROUPS = {  # module: function, cores
    "exactness": ("exactness", "all_figures", 2),
    "reading": ("data", "reading", 1),
    "codec": ("data", "codec", 1),
    "training data": ("data", "training_path", 1),
    "network": ("cpu", "on_cpu", 2),
    "faces by recipe": ("network", "faces_by_recipe", 2),
    "landmarks in pictures": ("landmarking", "engines_and_pictures", 2),
    "an epoch": ("network", "epoch", 2),
    "waiting threads": ("waiting", "busy_and_idle", 2),
    "the report": ("reporting", "small_and_large", 2),
    "GPU": ("gpu", "on_gpu", None),  # as many as there are
}
TARGET = Path("reports/benchmarks.json")


def measure_group(name: str, answer: Path) -> None:
    """In the group's own process: measure, and leave the figures in `answer`."""
    module, function, cores = GROUPS[name]
    if cores:
        measure.use_cores(cores)
    found = getattr(importlib.import_module(f"tests.bench.{module}"), function)()
    answer.write_bytes(pickle.dumps(found))


def main() -> None:
    made_on = measure.machine()
    print(", ".join(f"{key} {value}" for key, value in made_on.items()), flush=True)
    figures, of_gpu, missing = [], [], []
    for name, (_, _, cores) in GROUPS.items():
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        threads = {"OMP_NUM_THREADS": str(cores)} if cores else {}
        with tempfile.TemporaryDirectory() as folder:
            answer = Path(folder) / "answer"
            command = [sys.executable, "-m", "tests.bench", name, str(answer)]
            subprocess.run(command, check=True, env=os.environ | threads)
            for each in pickle.loads(answer.read_bytes()):  # our own process wrote it a moment ago
                of = of_gpu if name == "GPU" else figures
                (missing if isinstance(each, measure.Missing) else of).append(each)
    print(f"\n{measure.table(figures + of_gpu)}\n", flush=True)
    measure.write(TARGET, made_on, figures, missing, of_gpu)
    for each in missing:
        print(f"not measured: {each.name} ({each.why})")
    print(f"written: {TARGET}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        measure_group(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
