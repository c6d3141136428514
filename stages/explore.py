"""Write the explorer of a dataset: every test face with the annotation and the predictions of every method.

    python -m stages.explore lfpw

writes data/explorer/<dataset>/index.html, which a browser opens from disk, without a server or the network. It shows
all methods that have data/predictions/<name>.parquet of these faces, listed in params/pipeline.yaml or not, and marks
the landmarks of reports/label-suspects/<dataset>.csv where there is one. Faces without images at hand are drawn as
landmarks alone. The folder has the dataset's pictures: whether it may be passed on, the dataset's licence says.
"""

import argparse
import sys
from pathlib import Path

from stages.config.experiment import load_dataset
from stages.config.pipeline import RESULTS
from stages.data.scheme import read_scheme
from stages.exploring.content import summary
from stages.exploring.folder import write_explorer
from stages.exploring.methods import colours, read_methods
from stages.exploring.suspects import read_suspects
from stages.exploring.windows import read_windows
from stages.metrics.results import read_all
from stages.system import errors
from stages.system.errors import InputError

PREDICTIONS = Path("data/predictions")


def main(name: str) -> None:
    dataset = load_dataset(name, "about", "evaluation")
    scheme, shown = read_scheme(name), read_windows(Path("data/crops") / name)
    methods, unread = read_methods(PREDICTIONS, name, shown.faces, scheme)
    for method, fault in unread.items():
        print(f"warning: {method} is left out: {fault}", file=sys.stderr)
    if not methods:
        raise InputError(
            f"{PREDICTIONS} has no predictions of the test faces of {name}. List an experiment on it in "
            "params/pipeline.yaml and run dvc repro (or dvc checkout, where they were made before)."
        )
    suspects = read_suspects(Path("reports/label-suspects") / f"{name}.csv", shown.faces)
    results, _ = read_all(RESULTS)  # the report says which are damaged
    colour = colours([method.name for method in methods], results)
    threshold = 100 * dataset.evaluation.thresholds[0]
    folder = Path("data/explorer") / name
    content = summary(dataset.about.title, name, scheme, threshold, shown, methods, colour, suspects)
    write_explorer(folder, content, shown, methods)
    print(f"{folder / 'index.html'}: {len(shown.faces)} faces, {', '.join(method.name for method in methods)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="a name in params/datasets")
    arguments = parser.parse_args()
    errors.run(lambda: main(arguments.dataset))
