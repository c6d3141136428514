"""Print the parameter reference, docs/parameters.md.

python -m stages.parameters > docs/parameters.md
"""

import argparse

from stages.config.reference import reference


def main() -> None:
    print(reference(), end="")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()
