"""MLflow's server on this machine, for as long as its page is looked at."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from stages.system.errors import InputError
from stages.tracking.store import SETTINGS

HOST = "127.0.0.1"
START = 120.0  # s for the server to answer
END = 10.0  # s for it to end


def is_free(port: int) -> bool:
    with socket.socket() as test:
        test.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that are closing do not count
        try:
            test.bind((HOST, port))
        except OSError:
            return False
    return True


def require_free(port: int) -> None:
    """Raise `InputError`, which names who has it and another, where the port cannot be had."""
    if is_free(port):
        return
    another = next((other for other in range(port + 1, min(port + 100, 65536)) if is_free(other)), 8080)
    raise InputError(f"port {port} is taken{_by(port)}. End that, or take another port: make ui PORT={another}")


def _by(port: int) -> str:
    """Who listens on the port, as far as this user may know."""
    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                command = " ".join(psutil.Process(connection.pid).cmdline())
                return f" by process {connection.pid} ({command if len(command) < 80 else f'{command[:79]}…'})"
    return ""


@contextmanager
def serving(store: str, port: int, artifacts: Path, log: Path) -> Iterator[subprocess.Popen]:
    """MLflow's server of the store, from when it answers until the end of the block; what it prints goes to `log`.

    Raises `InputError` where it does not start.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--workers", "1"]
    command += ["--artifacts-destination", str(artifacts), "--host", HOST, "--port", str(port)]
    with log.open("wb") as printed:
        server = subprocess.Popen(
            command, env={**os.environ, **SETTINGS, "MLFLOW_LOGGING_LEVEL": "INFO"}, stdin=subprocess.DEVNULL,
            stdout=printed, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        _wait_for_answer(server, f"http://{HOST}:{port}/health", log)
        yield server
    finally:
        _end(server)


def _wait_for_answer(server: subprocess.Popen, address: str, log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        require_running(server, log)
        with suppress(urllib.error.URLError, OSError), opener.open(address, timeout=5):
            return
        time.sleep(0.2)
    raise InputError(f"MLflow's server has not answered in {START:.0f} s; what it printed is in {log}.")


def require_running(server: subprocess.Popen, log: Path) -> None:
    """Raise `InputError` with the end of the log where the server has ended by itself."""
    if server.poll() is not None:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-10:]
        raise InputError("\n".join(["MLflow's server has ended. The last that it printed:", *lines]))


def _end(server: subprocess.Popen) -> None:
    """End the server and its workers, a process group of their own."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, how)
        with suppress(subprocess.TimeoutExpired):
            server.wait(END)
            return
