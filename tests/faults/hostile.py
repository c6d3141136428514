"""Files of others, mutated at random: tests/test_fuzz.py with more mutations of each kind."""

import os
import random
import subprocess
import sys

from conftest import ROOT
from test_fuzz import KINDS

from tests.faults.toy import TRACEBACK, Outcome, Toy

MUTATIONS = 10  # of each kind of file, each time


def one(toy: Toy, rng: random.Random, number: int) -> Outcome:
    seed = rng.randrange(2**31)
    settings = {"FUZZ": str(MUTATIONS), "SEED": str(seed)}
    command = [sys.executable, "-m", "pytest", "--tb=short", "tests/test_fuzz.py"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True)
    wrong = done.stdout[-3000:] if done.returncode else ""
    fault = f"{MUTATIONS} mutations of each of {len(KINDS)} kinds of file, seed {seed}"
    seen = TRACEBACK in wrong or "Error" in wrong
    return Outcome("hostile input", fault, True, seen, not wrong, wrong, times=MUTATIONS * len(KINDS))
