"""Enter in MLflow what no stage has logged: results that DVC restored from its cache, and rendered pages.

    python -m stages.log_restored

Reads params/pipeline.yaml and the results of its experiments; results of other parameters or code are left out,
and a run that was deleted on the MLflow page stays deleted.
"""

import argparse

from stages.system import errors
from stages.tracking.results import log_missing


def main() -> None:
    for line in log_missing():
        print(line)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    errors.run(main)
