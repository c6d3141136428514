"""What goes wrong, said to a person: what happened, to which file or face, and what to do."""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence

SHOWN_FAULTS = 20


class InputError(Exception):
    """A fault of the input (data, parameters, weights) that its owner can mend; shown without a traceback."""


def refuse(faults: Sequence[str], what: str, remedy: str) -> None:
    """Raise one `InputError` that lists all `faults` (the first twenty, and how many more); nothing if there are none.

    `what` names the thing that was checked, `remedy` says what to do about it.
    """
    if not faults:
        return
    lines = [f"{what}: {len(faults)} fault{'s' if len(faults) > 1 else ''}"]
    lines += [f"  - {fault}" for fault in faults[:SHOWN_FAULTS]]
    if len(faults) > SHOWN_FAULTS:
        lines.append(f"  … and {len(faults) - SHOWN_FAULTS} more")
    lines.append(remedy)
    raise InputError("\n".join(lines))


class Stopped(BaseException):
    """SIGTERM arrived: unwind like Ctrl-C does, so that `finally` blocks run and nothing is left half-written."""


def run(main: Callable[[], object]) -> None:
    """Run a stage's `main` and end the process: 0, 1 with one clear message, 130 after Ctrl-C, 143 after SIGTERM."""

    def stop(signum, frame):
        signal.signal(signum, signal.SIG_IGN)  # a second one would break into the tidying up
        raise Stopped

    signal.signal(signal.SIGTERM, stop)
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except (KeyboardInterrupt, Stopped) as stopped:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130 if isinstance(stopped, KeyboardInterrupt) else 143)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        print(f"error: {os.strerror(error.errno) if error.errno else error}{where}", file=sys.stderr)
        if os.environ.get("DEBUG"):
            traceback.print_exc()
        sys.exit(1)
