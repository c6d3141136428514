"""Enter in MLflow what no stage has logged: results that DVC restored from its cache, and rendered pages.

    python -m stages.log_restored

Reads params/pipeline.yaml and the results of its experiments; results of other parameters or code are left out,
and a run that was deleted on the MLflow page stays deleted.
"""

import argparse

from stages.config.pipeline import RESULTS
from stages.metrics.results import read_all
from stages.system import errors
from stages.tracking.results import log_missing


def main() -> None:
    _, damaged = read_all(RESULTS)  # the report names their faults
    for line in log_missing(damaged):
        print(line)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    errors.run(main)
