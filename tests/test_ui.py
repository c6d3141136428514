"""`make ui`: the saved views and their links, the server, and that it leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from types import SimpleNamespace

import pytest
from browser import PROGRAM, Browser
from conftest import ROOT, embedded_store, free_port, start

from stages.system.errors import InputError
from stages.tracking import server, views
from stages.tracking.run import track
from stages.tracking.store import store_uri


def run(metrics=(), params=(), **tags):
    """A run as MLflow gives it, as far as the views read it."""
    data = SimpleNamespace(metrics=dict.fromkeys(metrics, 1.0), params=dict(params), tags=tags)
    return SimpleNamespace(data=data)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with two evaluated runs of two variants, and one that has only been trained."""
    root = tmp_path_factory.mktemp("store")
    with embedded_store(root):
        for rate, figures in ((0.1, {"test/nme": 4.0}), (0.2, {"test/nme": 5.0}), (0.3, {})):
            tags = {"entry": f"lr-{rate}", "variant": f"lr={rate}"}
            with track(f"lr-{rate}", "f1", "evaluate", params={"train": {"lr": rate}}, tags=tags) as made:
                made.log({"val/nme": 4.5, **figures})
        yield root


def start_ui(port, *, store):
    command = [sys.executable, "-m", "stages.ui", "--port", str(port)]
    return start(command, ROOT, {**os.environ, "DVC_ROOT": str(store)})


def test_the_columns_of_the_table_are_what_tells_runs_apart_and_figures_that_there_are():
    aflw = [
        run(["test/nme", "test/nme_ci95_low", "test/fr_0.02", "val/nme"], entry="a", dataset="aflw", seed="1"),
        run(["test/nme", "test/nme_ci95_low", "test/fr_0.02", "val/nme"], entry="a", dataset="aflw", seed="2"),
    ]
    assert views.columns(aflw) == [
        "metrics.`test/nme`",
        "metrics.`test/nme_ci95_low`",
        "tags.`entry`",
        "tags.`seed`",
        "metrics.`test/fr_0.02`",
        "metrics.`val/nme`",
    ]
    assert "tags.`dataset`" in views.columns([*aflw, run(entry="b", dataset="wflw")])


def test_the_parallel_coordinates_are_of_the_parameters_that_vary_in_the_store():
    def axes(*runs):
        (chart,) = views.views(runs)["parameters"][1]["compareRunCharts"]
        return chart["selectedParams"]

    runs = [
        run(params={"train.lr": rate, "model.width": width, "train.batch": 8, "train.seed": seed})
        for seed, (rate, width) in enumerate([(1, 18), (2, 18), (3, 32)])
    ]
    assert axes(*runs) == ["model.width", "train.lr"]
    assert axes(runs[0]) == list(views.COMMON), "where none varies"


def test_the_views_are_kept_with_the_experiment_and_their_links_returned(store):
    from mlflow import MlflowClient

    client = MlflowClient(store_uri(store))
    before = [made.to_dictionary() for made in client.search_runs(["1"])]
    for _ in range(2):  # again is no fault
        links = views.save("http://127.0.0.1:5000")
    group = client.get_experiment_by_name("hrnet-landmarks")
    page = f"http://127.0.0.1:5000/#/experiments/{group.experiment_id}/runs?workflowType=machine_learning"
    kept = {key.removeprefix(views.TAG): json.loads(value) for key, value in group.tags.items() if views.TAG in key}
    assert links.table == f"{page}&viewStateShareKey=runs"
    assert len(links.views) + 1 == len(kept) == 5
    for link in links.views.values():
        assert link.startswith(page)
        name = link.rpartition("=")[2]
        assert ("&compareRunsMode=CHART" in link) == ("compareRunCharts" in kept[name])
    assert kept["parameters"]["compareRunCharts"][0]["selectedParams"] == ["train.lr"]
    assert [made.to_dictionary() for made in client.search_runs(["1"])] == before


def test_there_are_no_views_before_the_first_run(store, monkeypatch):
    monkeypatch.setattr(views, "EXPERIMENT", "another")
    with pytest.raises(InputError, match="dvc repro makes its first run"):
        views.save("http://127.0.0.1:5000")


def test_another_version_of_mlflow_gets_the_plain_table_alone(store, monkeypatch):
    monkeypatch.setattr(views, "version", lambda address: "4.0.1")
    links = views.save("http://127.0.0.1:5000")
    assert "viewStateShareKey" not in links.table
    assert "workflowType=machine_learning" in links.table
    assert "orderByKey=metrics.%60test/nme%60" in links.table
    assert links.views == {}
    assert "4.0.1" in links.remark


def test_the_installed_mlflow_is_one_that_the_views_have_been_looked_at_with():
    assert views.version(None).rpartition(".")[0] in views.TESTED


def test_the_page_is_served_until_ctrl_c_and_its_link_is_the_last_line(store):
    port = free_port()
    process = start_ui(port, store=store)
    try:
        printed = []
        for line in process.stdout:
            printed.append(line.rstrip("\n"))
            if line.startswith("http"):
                break
        assert printed[-2:] == ["", f"http://127.0.0.1:{port}/#/experiments/1/runs?workflowType=machine_learning"
                                "&viewStateShareKey=runs"], printed  # fmt: skip
        assert sum("http" in line for line in printed) == 5
        assert len(printed) < 15, "no chatter of the server"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/version", timeout=20) as answer:
            assert answer.read().decode() == views.version(None)
        again = start_ui(port, store=store)
        said, _ = again.communicate(timeout=60)
        assert again.returncode == 1
        assert f"port {port} is taken by process " in said
        assert "make ui PORT=" in said
        assert said.count("\n") == 1
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, said.strip()) == (0, "MLflow's server has ended.")
    assert server.is_free(port)
    assert "Uvicorn running" in (store / "mlflow-server.log").read_text()


def test_a_server_that_does_not_start_says_why(store, tmp_path):
    with (
        pytest.raises(InputError, match="ended. The last that it printed"),
        server.serving("nonsense://store", free_port(), tmp_path / "artifacts", tmp_path / "log"),
    ):
        pass


def test_a_tracking_server_has_a_page_of_its_own(store, monkeypatch):
    """No second server is started; the links are of the first."""
    port = free_port()
    with server.serving(store_uri(store), port, store / "mlartifacts", store / "log"):
        address = f"http://127.0.0.1:{port}"
        printed = subprocess.run(
            [sys.executable, "-m", "stages.ui"], cwd=ROOT, env={**os.environ, "MLFLOW_TRACKING_URI": address},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert printed.returncode == 0, printed.stderr
    last = printed.stdout.splitlines()[-1]
    assert last == f"{address}/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=runs"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """The address of a server with twenty trained and evaluated runs: ten learning rates, two seeds each."""
    root = tmp_path_factory.mktemp("sweep")
    with embedded_store(root):
        for number in range(20):
            rate, seed = 0.001 * (1 + number // 2), 1 + number % 2
            tags = {"entry": f"lr-{rate:.3f}", "variant": f"lr={rate:.3f}", "seed": str(seed)}
            tags["series"] = tags["entry"]
            parameters = {"train": {"lr": rate, "seed": seed}}
            with track(f"lr-{rate:.3f}-s{seed}", f"f{number}", "evaluate", params=parameters, tags=tags) as made:
                for epoch in (1, 2):
                    made.log({"val/nme": 5.0 / epoch, "train/loss": 1.0 / epoch, "lr": rate}, epoch)
                made.log({"test/nme": 4.0 + 0.01 * number, "test/nme_ci95_low": 3.9, "test/nme_ci95_high": 4.3})
        port = free_port()
        with server.serving(store_uri(root), port, root / "mlartifacts", root / "log"):
            yield f"http://127.0.0.1:{port}"


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium or Chrome on the PATH to open the page with")
def test_the_page_shows_twenty_runs_as_the_views_ask_for(sweep, monkeypatch, tmp_path):
    """MLflow's page reads the views' private form: columns, order, groups and charts are there without configuring."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sweep)
    monkeypatch.setattr("browser.WAIT", 120)  # the page is megabytes of scripts, and other tests use the cores
    links = views.save(sweep)
    browser = Browser(tmp_path, 1600, 1000)
    try:

        def text_of(link: str, *wanted: str) -> str:
            browser.open(link)
            for word in wanted:
                browser.wait(f"document.body?.innerText.includes({json.dumps(word)})")
            return browser.run("document.body.innerText")

        table = text_of(links.table, "lr-0.010-s2", "test/nme_ci95_high", "variant")
        names = [f"lr-{0.001 * (1 + number // 2):.3f}-s{1 + number % 2}" for number in range(20)]
        assert [table.count(name) > 0 for name in names] == [True] * 20
        assert sorted(names, key=table.index) == names, "the lowest NME is first"
        by_question = dict(links.views)
        groups = text_of(by_question["Which variant is best over its seeds?"], "Group: lr-0.001", "Group: lr-0.010")
        assert [f"Group: lr-{0.001 * (1 + n):.3f}" in groups for n in range(10)] == [True] * 10
        text_of(by_question["How did the trainings go?"], "charts", "f0 (val/nme)", "f0 (train/loss)", "f0 (lr)")
        text_of(by_question["Which parameters make the difference?"], "charts", "Parallel Coordinates", "train.lr")
    finally:
        browser.close()
