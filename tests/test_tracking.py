"""What a run holds, which process owns it, and that no store can stop a stage. One embedded database for the module."""

import contextlib
import datetime
import math
import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import embedded_store
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import event
from sqlalchemy.orm import Session

from stages.system.errors import Stopped, stop
from stages.tracking import store, views
from stages.tracking.run import find, track
from stages.tracking.store import DataInput, Known, store_uri

ROOT = Path(__file__).parents[1]
MD5 = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A client of an embedded store whose path holds a space."""
    root = tmp_path_factory.mktemp("a repository")
    with embedded_store(root):
        with begin("first", "f1"):
            pass
        from mlflow import MlflowClient

        yield MlflowClient(store_uri(root))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A fresh root, and no test's store but what it names."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")  # so that it is part of what may fail
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("LANDMARKS_TRACKING", raising=False)
    return tmp_path


def begin(experiment, fingerprint, stage="train", params=None, tags=None, **more):
    return track(experiment, fingerprint, stage, params=params or {}, tags=tags or {}, **more)


def runs_of(client, experiment):
    group = client.get_experiment_by_name("hrnet-landmarks")
    return client.search_runs([group.experiment_id], f"tags.experiment = '{experiment}'")


def other_process(code, **environment):
    """Python that runs `code` with `track` at hand; it says so on stdout by `print("here", flush=True)`."""
    head = "import os, signal, sys, time\nfrom stages.tracking.run import track\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + code],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_stages_of_one_fingerprint_share_one_run(client):
    with begin("demo-quick", "aaaa1111bbbb", "train") as train:
        assert client.get_run(train.id).info.status == "RUNNING"
    with begin("demo-quick", "aaaa1111bbbb", "evaluate") as evaluate:
        assert client.get_run(train.id).info.status == "RUNNING"
    with begin("demo-quick", "cccc2222dddd", "train") as other:
        pass
    assert train.id == evaluate.id != other.id
    assert len(runs_of(client, "demo-quick")) == 2
    run = client.get_run(train.id)
    assert (run.info.status, run.info.run_name, train.name) == (
        "FINISHED",
        "demo-quick aaaa1111",
        "demo-quick-aaaa1111",
    )
    assert run.data.tags["stage"] == "evaluate"


def test_a_run_holds_params_metrics_tags_data_and_artifacts(client, tmp_path):
    params = {"train": {"lr": 0.01, "milestones": [30, 50]}, "seed": 1, "long": "x" * 9000}
    params |= {f"p{i}": i for i in range(250)}  # more than one call takes
    figure = tmp_path / "ced.svg"
    figure.write_text("<svg/>")
    train = DataInput("demo", f"{MD5}.dir", "data/crops/demo", "training", 300)
    test = DataInput("demo", f"{MD5}.dir", "data/crops/demo", "test", 80)
    for data in (train, train, test):
        with begin("content", "f1", params=params, tags={"dataset": "demo", "code": MD5}, data=data) as run:
            run.log({"train/loss": 0.5, "val/nme": 4.25}, step=1)
            run.log({"train/loss": 0.25}, step=2)
            run.artifact(figure, "figures")
    stored = client.get_run(run.id)
    assert stored.data.params["train.lr"] == "0.01"
    assert stored.data.params["train.milestones"] == "[30, 50]"
    assert len(stored.data.params["long"]) == 6000
    assert len(stored.data.params) == 254
    assert stored.data.metrics == {"train/loss": 0.25, "val/nme": 4.25}
    tags = stored.data.tags
    assert (tags["dataset"], tags["code"], tags["fingerprint"], tags["stage"]) == ("demo", MD5, "f1", "train")
    inputs = sorted((given.dataset for given in stored.inputs.dataset_inputs), key=lambda dataset: dataset.name)
    assert [(d.name, d.digest, d.profile) for d in inputs] == [
        ("demo-test", f"{MD5}.dir", '{"num_rows": 80}'),
        ("demo-training", f"{MD5}.dir", '{"num_rows": 300}'),
    ]
    assert [file.path for file in client.list_artifacts(run.id, "figures")] == ["figures/ced.svg"]
    folder = Path(os.environ["DVC_ROOT"]) / "mlartifacts"
    assert (folder / run.id / "artifacts/figures/ced.svg").read_text() == "<svg/>"


def test_a_repository_that_moves_takes_its_artifacts_along(elsewhere, monkeypatch):
    figure = elsewhere / "ced.svg"
    figure.write_text("<svg/>")
    old, new = elsewhere / "old", elsewhere / "new"
    monkeypatch.setenv("DVC_ROOT", str(old))
    with begin("moves", "f1") as before:
        before.artifact(figure)
    with begin("moves", "f2"):
        pass
    old.rename(new)
    monkeypatch.setenv("DVC_ROOT", str(new))
    for fingerprint in ("f2", "f3"):
        with begin("moves", fingerprint) as after:
            after.artifact(figure)
    assert not old.exists()
    from mlflow import MlflowClient

    moved = runs_of(MlflowClient(store_uri(new)), "moves")
    assert {run.info.run_id for run in moved} >= {before.id, after.id}
    for run in moved:
        folder = new / "mlartifacts" / run.info.run_id / "artifacts"
        assert run.info.artifact_uri == folder.as_uri()
        assert (folder / "ced.svg").exists()


@pytest.mark.parametrize(
    ("name", "inside"),  # MLflow keeps engines by URI, so only one test of this process has a relative mlflow.db
    [("a%20b?c#d", True), ("a%20b?c#d", False), ("100%", False), ("with a space", True), ("größe", True)],
)
def test_a_repository_may_be_in_a_folder_of_any_name(tmp_path, monkeypatch, name, inside):
    root = tmp_path / name
    root.mkdir()
    monkeypatch.setenv("DVC_ROOT", str(root))
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("LANDMARKS_TRACKING", raising=False)
    monkeypatch.chdir(root if inside else tmp_path)
    figure = tmp_path / "ced.svg"
    figure.write_text("<svg/>")
    for _ in range(2):
        with begin("odd", "f1", system_metrics=True) as run:
            run.log({"val/nme": 4.0}, step=1)
            run.artifact(figure, "figures")
        assert run.tracked
    with sqlite3.connect(root / "mlflow.db") as database:
        assert database.execute("SELECT run_uuid, status FROM runs").fetchall() == [(run.id, "FINISHED")]
        assert ("val/nme", 4.0) in database.execute("SELECT key, value FROM metrics").fetchall()
    assert (root / "mlartifacts" / run.id / "artifacts/figures/ced.svg").exists()
    assert find("odd", "f1").tags
    assert views.save("http://127.0.0.1:5000").views
    if inside:
        assert sorted(os.listdir(tmp_path)) == sorted([name, "ced.svg"]), "and nothing beside it"


def test_a_run_is_looked_up_without_being_opened(client):
    assert find("looked-up", "f1") == Known()
    with begin("looked-up", "f1") as run:
        run.mark("history")
    before = client.get_run(run.id)
    assert "logged.history" in find("looked-up", "f1").tags
    assert find("looked-up", "f2") == Known()
    assert client.get_run(run.id).to_dictionary() == before.to_dictionary()
    client.delete_run(run.id)
    assert find("looked-up", "f1") == Known(deleted=run.id)
    with begin("looked-up", "f1") as again:  # a stage that runs again makes a run of its own
        pass
    assert again.id != run.id
    assert find("looked-up", "f1").deleted == ""


def test_what_is_added_afterwards_changes_no_time_and_no_tag_that_is_there(client):
    with begin("later", "f1", "train", tags={"cpu": "one"}) as run:
        pass
    before = client.get_run(run.id)
    test = DataInput("demo", MD5, "data/crops/demo", "test", 80)
    with begin("later", "f1", "evaluate", tags={"cpu": "other", "seed": "1"}, data=test, afterwards=True) as later:
        later.log({"test/nme": 4.0})
        later.mark("evaluate")
    after = client.get_run(run.id)
    assert (later.id, later.tracked) == (run.id, True)
    assert after.info.to_proto() == before.info.to_proto()
    assert after.data.tags == before.data.tags | {"logged.evaluate": "true", "seed": "1"}
    assert after.data.metrics == {"test/nme": 4.0}
    assert [given.dataset.name for given in after.inputs.dataset_inputs] == ["demo-test"]
    with pytest.raises(RuntimeError), begin("later", "f1", "evaluate", afterwards=True):
        raise RuntimeError
    assert client.get_run(run.id).info.to_proto() == before.info.to_proto(), "the training has not failed"
    with begin("later", "f2", "evaluate", afterwards=True) as new:
        assert client.get_run(new.id).info.status == "RUNNING"
    assert client.get_run(new.id).info.status == "FINISHED"


def test_the_commit_and_whether_the_tree_is_dirty_are_tags(client):
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True)
    if head.returncode:
        pytest.skip("the project is not in a git repository here")
    with begin("commit", "f1") as run:
        pass
    tags = client.get_run(run.id).data.tags
    assert len(tags["commit"]) == 40
    assert tags["dirty"] in ("true", "false")


def test_a_whole_history_arrives_step_by_step(client):
    with begin("history", "f1") as run:
        assert not run.has("history")
        run.log_history((step, {"train/loss": 1 / step, "val/nme": float(step)}) for step in range(1, 1301))
        run.mark("history")
        assert run.has("history")
    history = client.get_metric_history(run.id, "train/loss")
    assert [m.step for m in history] == list(range(1, 1301))
    assert [m.value for m in history] == pytest.approx([1 / step for step in range(1, 1301)], rel=1e-5)
    with begin("history", "f1", "evaluate") as again:  # so a run restored from the cache is logged once
        assert again.has("history")
        assert not again.has("figures")


def test_a_logged_value_has_six_digits(client):
    with begin("digits", "f1") as run:
        run.log({"lr": 0.000123456789, "test/nme": 5.960642802203323, "n": 10472})
    assert next(iter(client.get_run(run.id).data.metrics)) == "test/nme", "the page Compare opens on it"
    assert client.get_run(run.id).data.metrics == {"test/nme": 5.96064, "lr": 0.000123457, "n": 10472}


def test_the_name_in_mlflow_says_what_differs(client, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "puffy-lads")
    tags = {"entry": "wide", "variant": "lr=0.002 width=12", "seed": "2"}
    with begin("wide-s2", "abcdef0123456789", tags=tags) as run:
        pass
    stored = client.get_run(run.id)
    assert run.name == "wide-s2-abcdef01", "in files, which are the same on every machine"
    assert stored.info.run_name == "wide-s2 lr=0.002 width=12 abcdef01"
    assert stored.data.tags.items() >= (tags | {"dvc_experiment": "puffy-lads"}).items()
    with begin("wide-s2", "fedcba9876543210", tags=tags | {"variant": "milestones=[1]" * 20}) as run:
        pass
    assert client.get_run(run.id).info.run_name.endswith("… fedcba98")
    assert len(client.get_run(run.id).info.run_name) < 120


def test_what_is_not_finite_is_logged_as_nan(client):
    with begin("nan", "f1") as run:
        run.log({"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.0})
    metrics = client.get_run(run.id).data.metrics
    assert [math.isnan(metrics[key]) for key in "abcd"] == [True, True, True, False]


@pytest.mark.parametrize("key", ["fr@0.1", "nme (pose)", "auc%", "a//b", "../a", "/a", "a/", ""])
@pytest.mark.parametrize("switch", ["on", "off"])
def test_a_key_that_mlflow_refuses_is_refused_at_once(client, monkeypatch, key, switch):
    monkeypatch.setenv("LANDMARKS_TRACKING", switch)
    with begin("keys", "f1") as run, pytest.raises(ValueError, match="MLflow refuses the key"):
        run.log({key: 1.0})


def test_runs_of_different_datasets_compare_under_the_same_keys(client):
    for dataset in ("wflw", "300w"):
        with begin(f"{dataset}-paper", "f1", params={"dataset": dataset, "train": {"lr": 1}}) as run:
            run.log({"val/nme": 4.0, "test/nme": 5.0})
    wflw, w300 = runs_of(client, "wflw-paper") + runs_of(client, "300w-paper")
    assert wflw.info.experiment_id == w300.info.experiment_id
    assert wflw.data.metrics.keys() == w300.data.metrics.keys()
    assert wflw.data.params.keys() == w300.data.params.keys()


def test_a_changed_param_keeps_its_first_value_and_a_tag_has_the_latest(client):
    for workers in (1, 1, 2):
        with begin("changed", "f1", params={"workers": workers}) as run:
            pass
    stored = client.get_run(run.id)
    assert (stored.data.params["workers"], stored.data.tags["latest.workers"]) == ("1", "2")
    with begin("changed", "f1", params={"workers": 1}):
        pass
    assert client.get_run(run.id).data.tags["latest.workers"] == "1"


@pytest.mark.parametrize(
    ("error", "status"),
    [(RuntimeError, "FAILED"), (SystemExit, "FAILED"), (KeyboardInterrupt, "KILLED"), (Stopped, "KILLED")],
)
def test_how_a_stage_ends_is_the_status_of_its_run(client, error, status):
    with pytest.raises(error), begin(f"ends-{error.__name__}", "f1") as run:
        raise error
    assert client.get_run(run.id).info.status == status
    with begin(f"ends-{error.__name__}", "f1"):
        pass
    assert client.get_run(run.id).info.status == "FINISHED"


@pytest.mark.parametrize(("how", "error"), [(signal.SIGTERM, Stopped), (signal.SIGINT, KeyboardInterrupt)])
@pytest.mark.parametrize(("moment", "status"), [("opening", "KILLED"), ("logging", "KILLED"), ("closing", "FINISHED")])
def test_a_signal_in_the_middle_of_a_transaction_leaves_no_run_running(client, how, error, moment, status):
    experiment, armed = f"stopped-{moment}-{how.name}", []

    def send(*_):
        if armed:
            armed.clear()
            os.kill(os.getpid(), how)

    def stage():
        armed.extend([True] * (moment == "opening"))
        with begin(experiment, "f1") as run:
            armed.extend([True] * (moment == "logging"))
            run.log({"val/nme": 4.2})
            armed.extend([True] * (moment == "closing"))

    before = signal.signal(signal.SIGTERM, stop)  # as within errors.run
    event.listen(Session, "after_flush", send)  # SQLite holds the lock for writing from here to the commit
    try:
        with pytest.raises(error):
            stage()
        assert not armed, "the signal was sent"
    finally:
        event.remove(Session, "after_flush", send)
        signal.signal(signal.SIGTERM, before)
    (run,) = runs_of(client, experiment)
    assert run.info.status == status
    assert run.data.metrics == ({} if moment == "opening" else {"val/nme": 4.2})


def test_a_killed_run_is_closed_and_a_living_process_keeps_its_own(client):
    code = 'with track("killed", "f1", "train", params={}, tags={}) as run: print(run.id, flush=True); time.sleep(600)'
    holder = other_process(code)
    try:
        held = holder.stdout.readline().strip()
        with begin("killed", "f2"):
            assert client.get_run(held).info.status == "RUNNING"
        with begin("killed", "f1") as same:
            assert same.id == held
        assert client.get_run(held).info.status == "RUNNING"
        assert client.get_run(held).data.tags["pid"] == str(holder.pid)
        os.kill(holder.pid, signal.SIGKILL)
        while Path(f"/proc/{holder.pid}/stat").exists() and "Z" not in status_of(holder.pid):
            time.sleep(0.01)  # dead, but not waited for: that must not count as living
        with begin("another experiment", "f1"):
            assert client.get_run(held).info.status == "RUNNING"
        with begin("killed", "f2", "evaluate"):
            assert client.get_run(held).info.status == "KILLED"
        with begin("killed", "f1") as same:
            assert (same.id, client.get_run(held).info.status) == (held, "RUNNING")
        assert client.get_run(held).info.status == "FINISHED"
    finally:
        holder.kill()
        holder.communicate()


def status_of(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize(("host", "status"), [(None, "KILLED"), ("another-host", "RUNNING")])
def test_a_reused_pid_is_known_by_its_start_time_and_other_hosts_are_left_alone(client, host, status):
    experiment = f"reused-{status}"
    tags = {"experiment": experiment, "fingerprint": "f1", "pid": str(os.getpid()), "pid_started": "1000000000.00"}
    group = client.get_experiment_by_name("hrnet-landmarks").experiment_id
    left = client.create_run(group, tags=tags | {"host": host or socket.gethostname()})
    with begin(experiment, "f2"):
        assert client.get_run(left.info.run_id).info.status == status


def test_system_metrics_go_on_where_they_stopped(client, monkeypatch):
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    key = "system/cpu_utilization_percentage"
    for _ in range(2):
        with begin("load", "f1", system_metrics=True) as run:
            before = len(client.get_metric_history(run.id, key))
            for _ in range(100):
                if len(client.get_metric_history(run.id, key)) > before:
                    break
                time.sleep(0.05)
    steps = [metric.step for metric in client.get_metric_history(run.id, key)]
    assert len(steps) >= 2
    assert steps == list(range(len(steps)))
    assert "SystemMetricsMonitor" not in [thread.name for thread in threading.enumerate()]


def test_the_load_of_the_machine_is_logged_only_where_it_is_asked_for(client, monkeypatch):
    monkeypatch.delenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", raising=False)
    with begin("idle", "f1", system_metrics=True):
        assert "SystemMetricsMonitor" not in [thread.name for thread in threading.enumerate()]


def test_four_processes_on_a_fresh_store_all_succeed_and_share_one_run(elsewhere):
    code = (
        'with track("race", sys.argv[1], "train", params={"a": 1}, tags={}) as run: run.log({"x": 1.0}); print(run.id)'
    )
    racers = [other_process(f"sys.argv[1:] = ['{fingerprint}']\n{code}") for fingerprint in ("f1", "f1", "f1", "f2")]
    printed = [racer.communicate() for racer in racers]
    assert [err for _, err in printed] == [""] * 4
    ids = [out.strip() for out, _ in printed]
    assert len(set(ids[:3])) == 1
    assert len(set(ids)) == 2
    from mlflow import MlflowClient

    assert {run.info.run_id for run in runs_of(MlflowClient(store_uri(elsewhere)), "race")} == set(ids)


@contextlib.contextmanager
def silent_server():
    with socket.create_server(("127.0.0.1", 0)) as server:  # the kernel accepts, nobody answers
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextlib.contextmanager
def no_server():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    yield f"http://someone:secret@127.0.0.1:{port}"


@contextlib.contextmanager
def answering(code, body, tls=None):
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Retry-After", "600")
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PATCH = do_GET

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@contextlib.contextmanager
def certified_by_itself(folder):
    """A server of https whose certificate nobody has vouched for."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    maker = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    pem = serialization.Encoding.PEM
    (folder / "key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "certificate").write_bytes(maker.sign(key, hashes.SHA256()).public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate", folder / "key")
    with answering(200, b"{}", context) as uri:
        yield uri.replace("http://", "https://")


@pytest.mark.parametrize(
    ("server", "sentence"),
    [
        (no_server, "nothing answers there"),
        (silent_server, "no answer in time"),
        (lambda: answering(200, b"{}"), "Error"),
        (lambda: answering(200, b"<p>"), "what answers there is no MLflow server"),
        (lambda: answering(503, b""), "it fails with status 503: its database may be down or its disk full"),
        (lambda: answering(401, b"who?"), "user name or password is wrong; set MLFLOW_TRACKING_USERNAME"),
        (lambda: answering(403, b"no"), "this user may not do that"),
        (lambda: answering(403, b"Invalid Host header"), "it does not answer to this name"),
        (None, "its certificate is not trusted; MLFLOW_TRACKING_SERVER_CERT_PATH has to name"),
    ],
    ids=[
        "refuses", "never answers", "empty answers", "answers garbage", "is unavailable", "wrong password",
        "forbidden", "other name", "certificate",
    ],
)  # fmt: skip
def test_a_server_that_fails_costs_seconds_and_one_sentence(elsewhere, monkeypatch, capfd, server, sentence):
    store.mlflow_available()  # its import is no fault of the server's
    with server() if server else certified_by_itself(elsewhere) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        monkeypatch.setattr("stages.tracking.run.TIMEOUT", store.TIMEOUT - 6)
        started, trained = time.monotonic(), False
        with begin("down", "f1", params={"a": 1}, system_metrics=True) as run:
            for epoch in range(3):
                run.log({"val/nme": 1.0}, step=epoch)
            run.mark("history")
            run.artifact(Path(__file__))
            trained = True
        assert time.monotonic() - started < 10 - 6
    assert trained
    assert (run.id, run.name, run.has("history")) == (None, "down-f1", False)
    printed = capfd.readouterr().err
    assert printed.startswith("warning: MLflow at http")
    assert sentence in printed
    assert printed.count("\n") == 1
    assert "secret" not in printed


def test_no_certificate_named_does_not_mean_any_certificate(monkeypatch):
    """MLflow takes an empty name for leave to send the password to whoever answers."""
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", "")
    store.mlflow_available.cache_clear()
    assert store.mlflow_available()
    assert "MLFLOW_TRACKING_SERVER_CERT_PATH" not in os.environ


def test_the_server_s_answer_to_an_upload_is_waited_for_by_the_file_s_size(client, tmp_path, monkeypatch):
    """MLflow's server answers when it has passed the file on to its artifact store."""
    model, waited = tmp_path / "model.safetensors", []
    with model.open("wb") as file:
        file.truncate(40_000_000)
    usual = int(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"])
    with begin("large", "f1") as run:
        with monkeypatch.context() as patch:
            patch.setattr(
                type(run._client), "log_artifact", lambda *_: waited.append(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"])
            )
            run.artifact(model)
        run.log({"val/nme": 1.0})
    assert waited == [str(usual + 20)]
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == str(usual)


def test_a_real_server_tracks_and_may_die_in_the_middle(elsewhere, monkeypatch, capfd):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    store.mlflow_available()
    with begin("made", "f1"):  # the database, by the quick way
        pass
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store_uri(elsewhere), "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--artifacts-destination", str(elsewhere / "artifacts")]
    with open(elsewhere / "server.log", "wb") as log:
        server = subprocess.Popen(command, cwd=elsewhere, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            assert server.poll() is None, (elsewhere / "server.log").read_text()
            time.sleep(0.05)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        figure = elsewhere / "ced.svg"
        figure.write_text("<svg/>")
        data = DataInput("demo", MD5, "https://example.org/demo", "training", 3)
        started = None
        with begin("remote", "f1", params={"lr": 0.1}, tags={"dataset": "demo"}, data=data, system_metrics=True) as run:
            run.log({"val/nme": 1.0, "train/loss": math.inf}, step=1)
            run.artifact(figure, "figures")
            from mlflow import MlflowClient

            stored = MlflowClient(f"http://127.0.0.1:{port}").get_run(run.id)
            assert stored.info.status == "RUNNING"
            assert stored.data.metrics["val/nme"] == 1.0
            assert math.isnan(stored.data.metrics["train/loss"])
            assert stored.data.params == {"lr": "0.1"}
            assert stored.inputs.dataset_inputs[0].dataset.digest == MD5
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
            assert capfd.readouterr() == ("", "")
            started = time.monotonic()
            run.log({"val/nme": 2.0}, step=2)
            run.log({"val/nme": 3.0}, step=3)
        assert time.monotonic() - started < 10
        assert capfd.readouterr().err.count("warning: ") == 1
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def test_a_store_that_is_no_database_stops_no_stage(elsewhere, capfd):
    (elsewhere / "mlflow.db").write_text("no database " * 100)
    started = time.monotonic()
    with begin("broken", "f1") as run:
        run.log({"val/nme": 1.0})
    assert time.monotonic() - started < 5
    printed = capfd.readouterr().err
    assert "file is not a database" in printed
    assert printed.count("\n") == 1


def test_tracking_can_be_switched_off(elsewhere, monkeypatch, capfd):
    monkeypatch.setenv("LANDMARKS_TRACKING", "off")
    with begin("off", "f1") as run:
        run.log({"val/nme": 1.0})
        run.mark("history")
        run.artifact(Path(__file__))
    assert (run.id, run.has("history"), run.name) == (None, False, "off-f1")
    assert list(elsewhere.iterdir()) == []
    assert capfd.readouterr().err == ""


def test_a_missing_mlflow_is_reported_once_and_nothing_is_tracked(elsewhere, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    store.mlflow_available.cache_clear()
    try:
        for stage in ("train", "evaluate"):
            with begin("missing", "f1", stage) as run:
                run.log({"val/nme": 1.0})
        assert run.id is None
        printed = capfd.readouterr().err
        assert printed.startswith("warning: MLflow at mlflow.db: ModuleNotFoundError")
        assert printed.count("\n") == 1
    finally:
        store.mlflow_available.cache_clear()


def test_the_environment_names_another_store(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
    assert store_uri(tmp_path) == "http://tracking.example:5000"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert store_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"


def test_a_picture_is_kept_where_the_image_grid_looks_for_it(client, tmp_path):
    file = tmp_path / "faces.png"
    cv2.imwrite(str(file), np.full((20, 30, 3), 90, np.uint8))
    with begin("pictured", "f1") as run:
        run.picture(file, "faces")
    kept = [Path(each.path) for each in client.list_artifacts(run.id, "images")]
    assert {each.suffix for each in kept} == {".png", ".webp"}
    assert all(each.name.startswith("faces+") for each in kept)
    assert "mlflow.loggedImages" in client.get_run(run.id).data.tags
