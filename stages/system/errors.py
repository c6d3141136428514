"""Errors for a person: what happened, to which file or face, and what to do."""

import difflib
import os
import re
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NoReturn

from stages.system.parent import end_with_starter

SHOWN_FAULTS = 20
# How torch (CPU, GPU) and OpenCV say it, whose errors are of types of their own
NO_MEMORY = re.compile(
    r"out of memory|can(?:'t|not) allocate memory|insufficient memory|failed to map segment", re.IGNORECASE
)
STOPPED = "\nstopped; run the same command again to continue"


class InputError(Exception):
    """A fault of the input (data, parameters, weights) that its owner can fix; shown without a traceback."""


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


def validation_faults(error: Any, prefix: str = "", known: Iterable[str] = ()) -> list[str]:
    """Each fault of a pydantic `ValidationError` as `key: what is wrong`.

    prefix: where in the file the validated value is. known: keys for a suggestion.
    """
    faults = []
    for fault in error.errors():
        key = ".".join(str(part) for part in (prefix, *fault["loc"]) if part != "")
        if fault["type"] == "extra_forbidden":
            similar = difflib.get_close_matches(str(fault["loc"][-1]), list(known), 1)
            faults.append(f"{key}: unknown key" + (f"; did you mean {similar[0]}?" if similar else ""))
        elif fault["type"] == "missing":
            faults.append(f"{key}: missing")
        else:
            value = f" (it is {fault['input']!r})" if isinstance(fault["input"], str | int | float | None) else ""
            message = fault["msg"].removeprefix("Value error, ")
            faults.append(f"{key}: {message}{value}" if key else message)
    return faults


class Stopped(BaseException):
    """SIGTERM arrived: unwind as Ctrl-C does, so that `finally` blocks run and nothing is left half-written."""


def stop(*_) -> NoReturn:
    """Raise `Stopped`, as SIGTERM does within `run`."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would interrupt the clean-up
    raise Stopped


_arrived: set[int] = set()  # signals, within stop_deferred


def _defer(number: int, _) -> None:
    _arrived.add(number)


@contextmanager
def stop_deferred(*more: signal.Signals) -> Iterator[Callable[[], bool]]:
    """Within `run`, SIGTERM, and `more` such as SIGINT, wait for the end of the block, or of the one round it.

    Yields a function that says whether one has arrived.
    """
    numbers = (signal.SIGTERM, *more)
    in_main = threading.current_thread() is threading.main_thread()  # the one that handles signals
    before = {number: signal.getsignal(number) for number in numbers if in_main}
    deferred = {number: how for number, how in before.items() if how in (stop, signal.default_int_handler)}
    for number in deferred:
        signal.signal(number, _defer)
    try:
        yield lambda: not _arrived.isdisjoint(numbers)
    finally:
        for number, handler in deferred.items():
            if signal.getsignal(number) is _defer:  # unless stop() has been called
                signal.signal(number, handler)
        arrived = [number for number in deferred if number in _arrived]
        _arrived.difference_update(deferred)
    for number in arrived:
        deferred[number](number, None)


def run(main: Callable[[], object]) -> None:
    """Run a stage's `main` and end the process: 0, 1 with one clear message, 130 after Ctrl-C, 143 after SIGTERM."""
    signal.signal(signal.SIGTERM, stop)
    end_with_starter()
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except (KeyboardInterrupt, Stopped) as stopped:
        print(STOPPED, file=sys.stderr)
        sys.exit(130 if isinstance(stopped, KeyboardInterrupt) else 143)
    except Exception as error:
        message = _explained(error)
        if message is None:  # a fault of this program: its traceback says where
            raise
        print(f"error: {message}", file=sys.stderr)
        if os.environ.get("DEBUG"):
            traceback.print_exc()
        sys.exit(1)


def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """`sys.excepthook` of a stage: Ctrl-C or a lack of memory while its packages are loaded, before `run` is called."""
    message = STOPPED if issubclass(kind, KeyboardInterrupt) else None
    if isinstance(error, ImportError | MemoryError | SystemError) and (said := _explained(error)):
        message = f"error: {said}"
    if message is None:
        sys.__excepthook__(kind, error, trace)
    else:
        print(message, file=sys.stderr)


def _memory_limit() -> int | None:
    """The bytes of address space that this process may have (ulimit -v), if they are limited."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _explained(error: Exception) -> str | None:
    """What happened and what to do, for an error that the machine causes; None for any other."""
    if isinstance(error, BrokenProcessPool):
        return (
            "a worker process was killed from outside, most likely because memory ran out. Close other programs or "
            "limit the cores (taskset -c 0,1 …), then run the same command again."
        )
    limit = _memory_limit()
    if isinstance(error, MemoryError) or NO_MEMORY.search(str(error)) or (limit and isinstance(error, SystemError)):
        said = str(error).strip().partition("\n")[0][:300]
        if limit:  # where an import finds no memory, Python ends in a SystemError
            return (
                f"memory ran out{f' ({said})' if said else ''}: this process may have {limit / 2**30:.1f} GiB of "
                "address space (ulimit -v). Raise the limit to 8 GiB or more, then run the same command again."
            )
        return (
            f"memory ran out{f' ({said})' if said else ''}. Close other programs, or lower train.batch or "
            "evaluate.batch in the recipe, then run the same command again."
        )
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        return f"{os.strerror(error.errno) if error.errno else error}{where}"
    return None
