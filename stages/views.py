"""Keep the views of the MLflow page with our MLflow experiment, and print the links that open them.

python -m stages.views http://127.0.0.1:5000
"""

import argparse

from stages.system import errors
from stages.tracking.views import save

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="of the MLflow page")
    arguments = parser.parse_args()
    errors.run(lambda: print("\n".join(save(arguments.address))))
