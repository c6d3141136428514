"""Every command of docs/team.md runs once, on a PostgreSQL, an S3 store and an MLflow server that are started for it.

Anna adds data, trains and pushes; Ben pulls and changes one parameter; both run at once; then the servers fail in the
ways that servers do. The server's address is 127.0.0.2, which MLflow does not take for this machine's own.
"""

import base64
import os
import re
import shutil
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import draw_toy, start
from documents import Clone
from preloaded import Server as Preloaded
from team.lab import ADDRESS, SECRETS, TEAM, Team
from team.servers import missing

from stages.tracking.store import SETTINGS

pytestmark = pytest.mark.skipif(
    bool(missing() or "TEAM_TEST" not in os.environ), reason=missing() or "make team-test runs these"
)
MOST = 10.0  # s that a failing server may cost


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    python = Preloaded(tmp_path_factory.mktemp("python") / "bin", "mlflow", "sqlalchemy", **SETTINGS)
    team = Team(tmp_path_factory.mktemp("team"), python.path / "python")
    try:
        (team.folder / "home").mkdir()
        team.postgres.start()
        team.s3.start()
        yield team
    finally:
        team.stop()
        python.stop()


def train(clone: Clone, name: str = "mine-quick", **environment: str) -> tuple[list[str], float]:
    """What the training of an experiment says of MLflow's server, and the seconds it takes; it has to succeed."""
    own = clone.environment
    clone.environment = {key: value for key, value in (own | environment).items() if value}
    started = time.monotonic()
    try:
        printed = clone.run(f"python -m stages.train {name}")
    finally:
        clone.environment = own
    assert f"models/{name}: epoch" in printed
    return [line for line in printed.splitlines() if "warning" in line.lower()], time.monotonic() - started


def test_the_administrator_starts_the_server(team):
    team.server.run("make team", activated=False)
    team.server.run(TEAM.block("createdb mlflow"))
    team.start_mlflow()
    add = TEAM.block("curl")
    for name in ("anna", "ben"):
        team.server.environment |= {"MEMBER": name, "PASSWORD": SECRETS[name]}
        assert f'"username":"{name}"' in team.server.run(add).replace(" ", "")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(team.port)))
    assert team.answer("/api/2.0/mlflow/experiments/search") == 401
    page = {"Content-Type": "application/json", "Authorization": authorization("anna")}
    search = "/ajax-api/2.0/mlflow/experiments/search", b'{"max_results": 1}'
    assert team.answer(*search, **page, Origin=f"https://{ADDRESS}:{team.port}") == 200, "as a browser asks"
    assert team.answer(*search, **page, Origin="https://elsewhere.example") == 403


def authorization(name: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{SECRETS[name]}".encode()).decode()


@pytest.fixture(scope="module")
def anna(team) -> Clone:
    clone = team.member("anna")
    draw_toy(clone.folder / "data/mine")
    return clone


@pytest.fixture(scope="module")
def ben(team) -> Clone:
    return team.member("ben")


def test_the_first_member_shares_data_models_and_runs(team, anna):
    anna.environment |= {"AWS_ENDPOINT_URL_S3": team.s3.environment["AWS_ENDPOINT_URL_S3"]}
    anna.run(TEAM.block("dvc remote add"))
    assert anna.run("git status --porcelain") == ""
    run = team.runs(anna)["mine-quick"]
    assert (run["status"], run["user"], run["steps"]) == ("FINISHED", "anna", [1, 2, 3, 4])
    assert {"model/model.safetensors", "results/metrics.json", "galleries/faces.jpg"} <= set(run["files"])


def test_another_member_has_nothing_to_do_and_sees_the_run(team, anna, ben):
    printed = ben.run(TEAM.block("dvc pull"))
    assert "Running stage" not in printed
    assert "Data and pipelines are up to date" in printed
    assert f"https://{ADDRESS}:{team.port}/#/experiments/1/runs?workflowType=machine_learning&viewState" in printed
    assert team.runs(ben) == team.runs(anna)
    run = team.runs(ben)["mine-quick"]["id"]
    ben.run(f"mlflow artifacts download --run-id {run} --artifact-path model/model.safetensors --dst-path got")
    model = anna.folder / "models/mine-quick/model.safetensors"
    assert (ben.folder / "got/model.safetensors").read_bytes() == model.read_bytes()
    shutil.rmtree(ben.folder / "got")


def test_no_secret_is_in_what_git_has(team, ben):
    commits = ben.run("git rev-list --all").split()
    for text in SECRETS.values():
        assert subprocess.run(["git", "grep", "-qF", text, *commits], cwd=ben.folder).returncode == 1


def test_a_changed_parameter_stands_beside_the_first_run(team, ben):
    (ben.folder / "params/pipeline.yaml").write_text(TEAM.yaml[0])
    printed = ben.run(TEAM.block("python -m stages.report compare"))
    assert "A = mine-quick, B = mine-quick-lr2" in printed
    rows = [line.split()[1:] for line in printed.splitlines() if line.endswith("FINISHED")]
    assert sorted(row[:3] for row in rows) == [["mine-quick", "anna", "0.01"], ["mine-quick-lr2", "ben", "0.002"]]


def test_two_members_run_at_once(team, anna, ben):
    names = {}
    for clone, rate in ((anna, "0.02"), (ben, "0.03")):
        names[clone] = f"mine-quick-{rate[-2:]}"
        add_variant(clone, names[clone], f"train.lr: {rate}")
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda clone: clone.run("dvc repro"), names))
    for clone in names:
        assert clone.run("python -m stages.log_restored") == "", "nothing is missing"
    runs = team.runs(ben)
    assert [(runs[name]["status"], runs[name]["user"]) for name in names.values()] == [
        ("FINISHED", "anna"), ("FINISHED", "ben")
    ]  # fmt: skip


def add_variant(clone: Clone, name: str, setting: str) -> None:
    """List a variant and check the parameters, as make repro does first."""
    pipeline = clone.folder / "params/pipeline.yaml"
    line = f"  {name}: {{dataset: mine, recipe: quick, set: {{{setting}}}}}"
    pipeline.write_text(pipeline.read_text().replace("experiments:\n", f"experiments:\n{line}\n"))
    clone.run("python -m stages.check")


def test_the_server_dies_in_the_middle_of_a_training_and_comes_back(team, ben):
    before = team.runs(ben)
    add_variant(ben, "mine-quick-long", "train.epochs: 12")
    process = start(
        ["bash", "-c", "source .venv/bin/activate; dvc repro"], ben.folder, ben.environment | {"PYTHONUNBUFFERED": "1"}
    )
    printed = []
    for line in process.stdout:
        printed.append(line)
        if line.startswith("epoch 3/12"):
            team.kill_mlflow()
    assert process.wait() == 0, "".join(printed)
    told = [line for line in printed if line.startswith("warning: MLflow at")]
    assert len(told) == len({"train", "evaluate", "report"})
    assert all("nothing answers there" in line or "it broke off the connection;" in line for line in told), told
    team.start_mlflow()
    after = team.runs(ben)
    left = after.pop("mine-quick-long")
    assert after == before
    assert left["status"] == "RUNNING"
    assert set(left["steps"]) >= {1, 2}
    printed = ben.run(TEAM.block("python -m stages.log_restored"))
    assert re.fullmatch(r"mine-quick-long: entered in MLflow as run mine-quick-long-\w+\n", printed)
    after = team.runs(ben)
    entered = after.pop("mine-quick-long")
    assert after == before
    assert (entered["status"], entered["steps"]) == ("FINISHED", list(range(1, 13)))
    assert kinds(entered["files"], "mine-quick-long") == kinds(before["mine-quick"]["files"], "mine-quick")
    assert entered["metrics"].keys() == before["mine-quick"]["metrics"].keys()


def kinds(files: list[str], name: str) -> list[str]:
    """Names of a run's files, without the experiment's and without the time that MLflow adds to those of pictures."""
    return sorted(file.partition("+")[0].replace(f"{name}.md", "page") for file in files)


def test_what_a_member_sets_wrong_is_told_in_a_sentence(team, ben, undisturbed):
    other = team.folder / "other.crt"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout", os.devnull]
    subprocess.run([*command, "-out", other], check=True, capture_output=True)
    faults = {
        "user name or password is wrong; set MLFLOW_TRACKING_USERNAME": {"MLFLOW_TRACKING_PASSWORD": "wrong"},
        "its certificate is not trusted; MLFLOW_TRACKING_SERVER_CERT_PATH has to name":
            {"MLFLOW_TRACKING_SERVER_CERT_PATH": str(other)},
        "needs https:// in MLFLOW_TRACKING_URI": {"MLFLOW_TRACKING_URI": f"http://{ADDRESS}:{team.port}"},
    }  # fmt: skip
    for sentence, environment in faults.items():
        told(sentence, *train(ben, **environment), undisturbed)


@pytest.fixture(scope="module")
def undisturbed(ben) -> float:
    """Seconds that a training takes where nothing fails."""
    said, seconds = train(ben)
    assert said == []
    return seconds


def told(sentence: str, said: list[str], seconds: float, undisturbed: float) -> None:
    """Assert that a training has said this alone, and took at most the time that a failing server may cost longer."""
    assert len(said) == 1, said
    assert said[0].startswith("warning: MLflow at http")
    assert sentence in said[0]
    assert said[0].count(". ") == 0, "one sentence"
    assert seconds < 2 * undisturbed + MOST, "its own time differs"
    print(f"{seconds - undisturbed:+.1f} s: {said[0]}")


FULL = """
CREATE FUNCTION is_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE disk_full; END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON metrics EXECUTE FUNCTION is_full();
"""  # the error that PostgreSQL raises where a table cannot grow; on a full file system it leaves tables some space


def test_a_database_that_is_full_or_down_is_told_in_a_sentence_and_the_run_is_closed_afterwards(team, ben, undisturbed):
    sentence = "it fails with status 503: its database may be down or its disk full"
    team.server.run(f"psql --quiet -c '{FULL}' mlflow")
    told(sentence, *train(ben), undisturbed)
    team.postgres.stop()
    told(sentence, *train(ben), undisturbed)
    team.postgres.start()
    team.server.run("psql --quiet -c 'DROP FUNCTION is_full CASCADE' mlflow")
    assert "mine-quick: entered in MLflow" in ben.run("python -m stages.log_restored")
    assert team.runs(ben)["mine-quick"]["status"] == "FINISHED"


def test_a_store_that_is_full_or_without_its_bucket_is_told_in_a_sentence(team, ben, undisturbed):
    sentence = "it did not store model.safetensors: its artifact store fails"
    team.s3.stop()
    team.s3.start(largest_file=2**16)
    told(sentence, *train(ben), undisturbed)
    team.server.run('python -c \'import boto3; boto3.client("s3").delete_bucket(Bucket="landmarks")\'')
    told(sentence, *train(ben), undisturbed)
    for message, setting in {
        "The specified bucket does not exist": "true",
        "Forbidden": "export AWS_SECRET_ACCESS_KEY=wrong",
        "Could not connect to the endpoint URL": "dvc remote modify --local storage endpointurl http://127.0.0.1:1",
    }.items():
        started = time.monotonic()
        printed = ben.run(f"{setting}; ! dvc push 2>&1")
        assert message in printed
        assert printed.count("ERROR") == 1
        assert time.monotonic() - started < MOST


def test_every_block_was_run_in_reading_order():
    assert TEAM.taken == TEAM.blocks
