"""Check all parameters, and write params/resolved.yaml: what params/pipeline.yaml stands for, as dvc.yaml reads it.

    python -m stages.resolve

The pipeline's first stage. DVC has read the file by then, so the stage fails where it was out of date, and the same
command again reads the new one; `make repro` writes it beforehand (stages.check).
"""

import argparse

from stages.config.resolved import FILE, write_resolved
from stages.system import errors
from stages.system.errors import InputError


def main() -> None:
    if write_resolved():
        raise InputError(f"{FILE} was out of date when DVC read it, and now it is not: run the same command again.")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    errors.run(main)
