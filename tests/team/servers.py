"""PostgreSQL and an S3 store (SeaweedFS) for the tests of docs/team.md: in folders and on ports of their own."""

import json
import os
import pwd
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from conftest import free_port

HOST = "127.0.0.1"
START = 120.0  # s for a server to answer
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # Debian has them outside PATH
WEED = Path(sys.executable).parent / "weed"
NEVER = 2**40  # bytes


def program(name: str) -> str | None:
    """Where a program of PostgreSQL's is; None where it is not installed."""
    return shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *map(str, POSTGRES)]))


def missing() -> str:
    """What has to be installed before these servers can start; "" where nothing is missing."""
    if program("initdb") is None:
        return "PostgreSQL is not installed: apt install postgresql"
    if not WEED.exists():
        return "SeaweedFS is not installed: make team-test"
    return ""


def wait_for(port: int, process: subprocess.Popen, log: Path) -> None:
    """Return when something listens on the port; fails with the server's log where it ends before."""
    deadline = time.monotonic() + START
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(log.read_text(errors="replace")[-3000:])


class Server:
    """A server process in a session of its own; `start` after `kill` or `stop` goes on with the same files."""

    def __init__(self, command: list[str], folder: Path, port: int, user: str | None = None):
        self.command, self.folder, self.port, self.user = command, folder, port, user
        self.process: subprocess.Popen | None = None

    def start(self, largest_file: int = NEVER) -> None:
        """largest_file: bytes, beyond which no file of the server can grow, as on a full disk."""

        def limit():
            if largest_file < NEVER:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        log = self.folder / "log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, stdout=output, stderr=output, stdin=subprocess.DEVNULL,
                start_new_session=True, user=self.user, preexec_fn=limit,
            )  # fmt: skip
        wait_for(self.port, self.process, log)

    def end(self, how: int) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, how)
            self.process.wait(30)
            self.process = None


class Postgres(Server):
    """A PostgreSQL with one user, who has a password; `environment` is what its programs and psycopg2 read."""

    def __init__(self, user: str, password: str):
        folder, port = Path(tempfile.mkdtemp(prefix="postgres-")), free_port()
        owner = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
        (folder / "password").write_text(password)
        if owner:
            for path in (folder, folder / "password"):
                os.chown(path, pwd.getpwnam(owner).pw_uid, -1)
        initdb = [
            program("initdb"), "-D", "data", "-U", user, "-A", "scram-sha-256", "--pwfile=password", "--no-sync",
        ]  # fmt: skip
        subprocess.run(initdb, cwd=folder, check=True, capture_output=True, user=owner)
        settings = {
            "listen_addresses": HOST, "port": port, "unix_socket_directories": "", "fsync": "off"
        }  # fmt: skip
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        super().__init__([program("postgres"), "-D", "data", *options], folder, port, owner)
        self.environment = {"PGHOST": HOST, "PGPORT": str(port), "PGUSER": user, "PGPASSWORD": password}

    def stop(self) -> None:
        self.end(signal.SIGINT)  # its fast shutdown


class S3(Server):
    """An S3 store with one pair of keys; `environment` is what boto3 reads."""

    def __init__(self, key: str, secret: str):
        folder = Path(tempfile.mkdtemp(prefix="s3-"))
        (folder / "data").mkdir()
        keys = [{"accessKey": key, "secretKey": secret}]
        allowed = {"name": "team", "credentials": keys, "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [allowed]}))
        ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
        command = [str(WEED), "server", "-dir=data", f"-ip={HOST}", f"-ip.bind={HOST}", "-filer", "-s3"]
        command += [f"-{name}.port={port}" for name, port in ports.items()]
        command += [f"-{name}.port.grpc={free_port()}" for name in ports]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false", "-s3.config=s3.json"]
        command += ["-master.telemetry=false", "-volume.max=20", "-master.volumeSizeLimitMB=64"]
        super().__init__(command, folder, ports["s3"])
        self.environment = {
            "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_ENDPOINT_URL_S3": f"http://{HOST}:{self.port}",
        }  # fmt: skip

    def stop(self) -> None:
        self.end(signal.SIGKILL)  # it takes a minute otherwise
