"""A server that has imported torch and the other large packages, and starts stages for the tests by forking.

A stage takes 2 to 4 s to import what it needs, and the tests start hundreds. `Server` makes a `python` to put first on
PATH, which hands `python -m stages.…` to the server and everything else to the real interpreter. The forked process has
the caller's folder, environment, arguments and files, and imports the project's own modules from that folder. It is not
the caller's child, so tests that kill a stage start it without (`Project.start`).
"""

import array
import atexit
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

PACKAGES = """cv2 matplotlib.figure numpy pandas PIL.Image pyarrow.parquet pydantic safetensors.torch scipy.interpolate
scipy.stats torch torch._dynamo tqdm yaml"""
AT_IMPORT = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "PYTHONPATH")  # read when torch or Python starts

# Python without site and environment, since it starts for every stage
CLIENT = """#!{python} -ISE
import array, json, os, signal, socket, sys
if sys.argv[1:2] != ["-m"] or not sys.argv[2].startswith("stages.") or {settings!r} != [
    os.environ.get(name) for name in {names!r}
]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
order = json.dumps(dict(arguments=sys.argv[2:], folder=os.getcwd(), environment=dict(os.environ))).encode()
server.sendmsg([len(order).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
server.sendall(order)
answers = server.makefile()
process = int(answers.readline())
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: os.kill(process, number))
sys.exit(int(answers.readline()))
"""


class Server:
    """Started on creation; `path` is the folder to put first on PATH.

    more: packages to import besides PACKAGES. environment: variables that one of them reads at its import.
    """

    def __init__(self, folder: Path, *more: str, **environment: str):
        folder.mkdir()
        address, client = folder / "socket", folder / "python"
        settings = [os.environ.get(name) for name in AT_IMPORT]
        client.write_text(
            CLIENT.format(python=sys.executable, address=str(address), names=AT_IMPORT, settings=settings)
        )
        client.chmod(0o755)
        self.path = folder
        self._process = subprocess.Popen(
            [sys.executable, __file__, address, *more], env=os.environ | environment, text=True,
            stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        self._process.stdout.readline()  # until it listens

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def serve(address: str, *more: str) -> None:
    """Fork a process for each connection; it ends with the one that started it."""
    for package in (*PACKAGES.split(), *more):
        __import__(package)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    print("listening", flush=True)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            answer(connection)
        connection.close()


def answer(connection: socket.socket) -> None:
    """Run the stage that the caller asks for in a process of its own, and tell its exit status."""
    files = array.array("i")
    head, control, *_ = connection.recvmsg(4, socket.CMSG_SPACE(3 * files.itemsize))
    files.frombytes(control[0][2][: 3 * files.itemsize])
    order = json.loads(connection.makefile("rb").read(int.from_bytes(head, "big")))
    stage = os.fork()
    if stage == 0:
        connection.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.setsid()
        os.chdir(order["folder"])
        os.environ.clear()
        os.environ.update(order["environment"])
        sys.argv = order["arguments"]
        sys.path[0] = order["folder"]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        threading._shutdown()  # as at the end of any process, without taking the packages apart, which takes a second
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    for file in files:
        os.close(file)
    connection.sendall(f"{stage}\n".encode())
    status = os.waitstatus_to_exitcode(os.waitpid(stage, 0)[1])
    connection.sendall(f"{status if status >= 0 else 128 - status}\n".encode())
    os._exit(0)


if __name__ == "__main__":
    serve(*sys.argv[1:])
