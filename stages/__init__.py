"""The stages of dvc.yaml and what they are made of."""

import importlib
import os
import sys

# An OpenMP thread that waits for the others spins before it sleeps; in GNU's OpenMP, which torch brings, 300,000 times.
# Where other programs use the cores too, it spins while the thread it waits for has no core, and an epoch takes several
# times as long. 1000 times bridge the short waits within a step; no bit of a result depends on the number. It is set
# here because the library reads it when torch is imported, and a package is imported before its modules.
WAITING = {"GOMP_SPINCOUNT": "1000"}
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ |= WAITING

# A step goes through gigabytes of tensors: in pages of 2 MiB instead of 4 KiB, where Linux gives them on request, it
# takes a twentieth less of the CPU's time (measured). torch reads it at its first allocation.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

if sys.argv[:1] == ["-m"]:  # python -m stages.…: what happens while it loads its packages is told as well
    # imported when it is needed alone: a message costs no start a millisecond
    sys.excepthook = lambda *error: importlib.import_module("stages.system.errors").hook(*error)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(errors="replace")  # of a locale that cannot show every letter
