"""What this project stands: faults that are injected into the toy pipeline of the tests, with a seed."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # of conftest and preloaded, as pytest has it
