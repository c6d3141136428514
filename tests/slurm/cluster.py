"""Slurm's own daemons as a cluster of two nodes on this machine, with ports, keys and folders of their own.

The nodes are the addresses 127.0.0.1 and 127.0.0.2, which every Linux answers to, so that no name has to resolve. They
pretend to have 64 cores and 16 GPUs each.
"""

import getpass
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
from conftest import free_port

NODES = ("127.0.0.1", "127.0.0.2")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
SYSTEM = "/usr/local/sbin:/usr/sbin:/sbin"  # where the daemons are, on no user's PATH

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
SlurmdTimeout=30
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1
GresTypes=gpu
JobAcctGatherType=jobacct_gather/none
NodeName={first} Port={port_1} CPUs=64 Gres=gpu:16
NodeName={second} Port={port_2} CPUs=64 Gres=gpu:16
PartitionName=all Nodes=ALL Default=YES
"""


def missing() -> list[str]:
    """Those of Slurm's and munge's programs that are not installed."""
    return [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:{SYSTEM}")]


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> object:
    """What `condition` returns once it is true; fails with `what` after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.2)
    return result


class Cluster:
    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # a socket's path has 107 bytes at most
        for name in ("state", *NODES):
            (self.folder / name).mkdir()
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        (self.folder / "munge.key").chmod(0o600)
        (self.folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                host=socket.gethostname().partition(".")[0],
                folder=self.folder,
                user=getpass.getuser(),
                first=NODES[0],
                second=NODES[1],
                controller=free_port(),
                port_1=free_port(),
                port_2=free_port(),
            )  # fmt: skip
        )
        for number in range(16):
            (self.folder / f"gpu{number}").touch()
        (self.folder / "gres.conf").write_text(f"Name=gpu File={self.folder}/gpu[0-15]\n")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))},
            "PATH": f"{os.environ['PATH']}:{SYSTEM}",
            "SLURM_CONF": str(self.folder / "slurm.conf"),
        }
        self.daemons: dict[str, subprocess.Popen] = {}
        munge = {name: self.folder / f"munge.{name}" for name in ("socket", "log", "pid", "seed")}
        options = [f"--{name}{'' if name == 'socket' else '-file'}={path}" for name, path in munge.items()]
        self._start("munged", "--foreground", "--force", f"--key-file={self.folder}/munge.key", *options)
        wait_for(munge["socket"].exists, 20, self.logs())
        self._start("slurmctld", "-D")
        for node in NODES:
            self.start_node(node)
        wait_for(lambda: self.ask("sinfo", "-h", "-N", "-o", "%T").split() == ["idle"] * 2, 30, self.logs())

    def _start(self, program: str, *options: str, name: str = "") -> None:
        path = shutil.which(program, path=self.environment["PATH"])
        with (self.folder / f"{name or program}.out").open("w") as output:
            self.daemons[name or program] = subprocess.Popen(
                [path, *options], env=self.environment, stdout=output, stderr=output, start_new_session=True
            )

    def start_node(self, node: str) -> None:
        self._start("slurmd", "-D", "-N", node, name=node)

    def logs(self) -> str:
        return "\n".join(f"{file.name}: {file.read_text()[-2000:]}" for file in self.folder.glob("*.out"))

    def ask(self, *command: str) -> str:
        """What one of Slurm's commands prints, "" where it fails."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=30).stdout

    def job(self, number: str) -> dict[str, str]:
        """The fields of `scontrol show job`; those of an array's tasks overwrite each other."""
        return dict(re.findall(r"(\w+)=(\S*)", self.ask("scontrol", "show", "job", number)))

    def running(self, number: str) -> bool:
        """Whether a job, or a task of an array, has not ended: it runs, is ending, or is queued (again)."""
        return bool(self.ask("squeue", "-h", "-j", number))

    def processes(self, node: str, program: str) -> list[psutil.Process]:
        """The processes that jobs run on a node, of a command line that has `program`."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("SLURMD_NODENAME") == node and program in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def stop(self) -> None:
        self.ask("scancel", "--user", getpass.getuser())
        for daemon in reversed(self.daemons.values()):
            daemon.terminate()
        for daemon in self.daemons.values():
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def submit(cluster: Cluster, folder: Path, command: Sequence[str], environment: dict[str, str]) -> str:
    """The number of a job."""
    settings = {name: value for name, value in cluster.environment.items() if name.startswith("SLURM")}
    done = subprocess.run(
        ["sbatch", "--parsable", *command], cwd=folder, env=environment | settings, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
