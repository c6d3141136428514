"""A pool of worker processes, one per core at most, which never outlives the process that started it."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess

import cv2

GRACE = 0.5  # seconds for a worker to finish its job


def cores() -> int:
    """How many cores this process may use, which a job's limits may make fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Worker(SpawnProcess):
    def start(self) -> None:
        """Start with SIGINT blocked, which the new process inherits: one still importing prints no traceback."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class WorkerContext(SpawnContext):
    Process = Worker


@contextmanager
def processes(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Workers for so many jobs that share the cores, with one OpenCV thread in each, since each takes 140 MB.

    An exception ends them at once, with their jobs.

    They are spawned: a forked copy of a process with threads (torch's, OpenCV's) can hang on a lock that one of them
    held.
    """
    workers = max(1, min(cores(), jobs))
    pool = ProcessPoolExecutor(workers, WorkerContext(), initializer=_begin, initargs=(os.getpid(),))
    try:
        yield pool
    except BaseException:
        ending = threading.Thread(target=_end, args=(multiprocessing.active_children(),))
        ending.start()
        # Waited for: the pool's own thread, closing its pipe while the interpreter exits, ends in a traceback.
        pool.shutdown(cancel_futures=True)
        ending.join()
        raise
    pool.shutdown()


def _end(workers: list[multiprocessing.Process]) -> None:
    deadline = time.monotonic() + GRACE
    for worker in workers:
        worker.join(max(0, deadline - time.monotonic()))
        worker.terminate()  # one that hangs reading from a dead file system would never end


def _begin(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes, and the parent handles it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """A killed parent closes nothing: without this its workers would wait for the next job for ever."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
