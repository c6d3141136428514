"""The servers of docs/team.md and the clones of those who use them."""

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

from conftest import PIPELINE, ROOT, TOY_DATASET, TOY_RECIPE, Project, free_port
from documents import Clone, Document

from team.servers import S3, START, Postgres

TEAM = Document(ROOT / "docs/team.md")
ADDRESS = "127.0.0.2"
SECRETS = {
    "PGPASSWORD": "secret of the database", "AWS_SECRET_ACCESS_KEY": "secret-of-the-store",
    "MLFLOW_AUTH_ADMIN_PASSWORD": "secret-of-admin", "MLFLOW_FLASK_SERVER_SECRET_KEY": "secret-of-sessions",
    "anna": "secret-of-anna", "ben": "secret-of-ben",
}  # fmt: skip
MEMBER_SETS = (
    "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_SERVER_CERT_PATH",
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
)  # fmt: skip
RUNS = """python - <<'END'
import json, mlflow
client = mlflow.MlflowClient()
def files(run, path=""):
    for entry in client.list_artifacts(run, path):
        yield from files(run, entry.path) if entry.is_dir else [entry.path]
found = {}
for run in client.search_runs([client.get_experiment_by_name("hrnet-landmarks").experiment_id]):
    steps = {metric.step for metric in client.get_metric_history(run.info.run_id, "val/nme")}
    found[run.data.tags["experiment"]] = dict(
        id=run.info.run_id, status=run.info.status, user=run.info.user_id, metrics=run.data.metrics,
        steps=sorted(steps), files=sorted(files(run.info.run_id)))
print("found", json.dumps(found))
END
"""


class Team:
    """The servers, the administrator's clone and those of two members."""

    def __init__(self, folder: Path, python: Path):
        self.folder, self.python = folder, python
        self.postgres = Postgres("landmarks", SECRETS["PGPASSWORD"])
        self.s3 = S3("team", SECRETS["AWS_SECRET_ACCESS_KEY"])
        self.mlflow: subprocess.Popen | None = None
        self.certificate = folder / "home/landmarks-server/server.crt"
        self.port = str(free_port())
        self._make_origin()
        self.server = self.clone("server")
        self.server.environment |= {
            "ADDRESS": ADDRESS, "PORT": self.port, "MLFLOW_WORKERS": "1", **self.postgres.environment,
            **self.s3.environment, **{name: text for name, text in SECRETS.items() if name.startswith("MLFLOW")},
        }  # fmt: skip

    def _make_origin(self) -> None:
        """The repository, without data."""
        project = Project(self.folder / "first")
        first = project.folder
        shutil.rmtree(first / "data/toy")
        for file in ("Makefile", "pyproject.toml"):
            shutil.copy(ROOT / file, first)
        (first / "params/datasets/toy.yaml").unlink()
        (first / "params/datasets/mine.yaml").write_text(TOY_DATASET)
        (first / "params/recipes/quick.yaml").write_text(TOY_RECIPE)
        (first / "params/pipeline.yaml").write_text(PIPELINE.replace("tiny", "quick").replace("toy", "mine"))
        (first / "data/mine").mkdir()
        project.with_dvc()
        project.run("git", "clone", "-q", "--bare", ".", str(self.folder / "origin"))

    def clone(self, name: str) -> Clone:
        subprocess.run(["git", "clone", "-q", self.folder / "origin", self.folder / name], check=True)
        clone = Clone(self.folder / name, self.python, TEAM)
        clone.environment |= {"HOME": str(self.folder / "home"), "NO_PROXY": "127.0.0.1,127.0.0.2"}
        for who in ("AUTHOR", "COMMITTER"):
            clone.environment |= {f"GIT_{who}_NAME": name, f"GIT_{who}_EMAIL": f"{name}@example.org"}
        return clone

    def member(self, name: str) -> Clone:
        """A clone with what the page has each member set, and nothing else of the server's."""
        table = re.findall(r"`(\w+)`", TEAM.text.partition("## Each member")[2].partition("`dvc remote")[0])
        assert set(MEMBER_SETS) <= set(table)
        clone = self.clone(name)
        values = (
            f"https://{ADDRESS}:{self.port}", name, SECRETS[name], str(self.certificate), "team",
            SECRETS["AWS_SECRET_ACCESS_KEY"],
        )  # fmt: skip
        clone.environment |= dict(zip(MEMBER_SETS, values, strict=True))
        return clone

    def start_mlflow(self) -> None:
        """By the page's command."""
        if self.mlflow is None:
            self.command = f"source .venv/bin/activate\n{TEAM.block('MLFLOW_AUTH_CONFIG_PATH=')}"
        log = self.folder / "mlflow.log"
        with log.open("ab") as output:
            self.mlflow = subprocess.Popen(
                ["bash", "-c", self.command], cwd=self.server.folder, env=self.server.environment,
                stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START
        while self.answer("/health") != 200:
            if self.mlflow.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(log.read_text()[-3000:])
            time.sleep(0.1)

    def kill_mlflow(self) -> None:
        os.killpg(self.mlflow.pid, signal.SIGKILL)
        self.mlflow.wait()

    def answer(self, path: str, data: bytes | None = None, **headers: str) -> int | None:
        """The status that MLflow's server answers to this request; None where there is no answer."""
        trusted = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=self.certificate))
        request = urllib.request.Request(f"https://{ADDRESS}:{self.port}{path}", data, headers)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({}), trusted).open(request, timeout=30) as got:
                return got.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def runs(self, clone: Clone) -> dict[str, dict]:
        """What a member's MLflow client has of every run: status, user, metrics with their steps, files; by name."""
        return json.loads(clone.run(RUNS).rpartition("found ")[2])

    def stop(self) -> None:
        if self.mlflow is not None:
            with suppress(ProcessLookupError):
                self.kill_mlflow()
        self.s3.stop()
        self.postgres.stop()
        for server in (self.s3, self.postgres):
            shutil.rmtree(server.folder)
