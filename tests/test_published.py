"""Published figures (stages/reporting/published.yaml): impossible ones are refused, and what judges them is shown."""

import pytest

from stages.reporting import published as module
from stages.reporting.published import published
from stages.system.errors import InputError

DATASETS = ("wflw", "300w", "cofw", "aflw")


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Takes the place of published.yaml."""
    path = tmp_path / "published.yaml"
    monkeypatch.setattr(module, "FILE", path)
    module._read.cache_clear()
    yield path
    module._read.cache_clear()


def benchmark(figures: str) -> str:
    return f"300w: {{normaliser: inter_ocular, n: {{common: 554}}, methods: [{{method: M, {figures}}}]}}"


def test_an_auc_that_contradicts_its_nme_is_refused(file):
    """SPIGA's README gives AUC@8 44.20 for 300W common, whose NME of 2.59 implies at least 67.6."""
    file.write_text(benchmark("nme: {common: 2.59}, auc_0.08: {common: 44.20}"))
    with pytest.raises(InputError, match="M: common: auc_0.08 is 44.2, and its NME of 2.59 implies at least 67.6"):
        published("300w")


def test_the_least_possible_auc_may_be_rounded(file):
    file.write_text(benchmark("nme: {common: 2.59}, auc_0.08: {common: 67.5}"))
    assert [figure.value for figure in published("300w")] == [2.59, 67.5]


def test_what_judges_a_figure_is_known_of_those_that_say_it(file):
    file.write_text(benchmark("nme: {common: 2.59}, epoch_chosen_on: test, extra_data: ImageNet"))
    assert published("300w")[0].judged_by == "epoch chosen on test; extra data: ImageNet"
    file.write_text(benchmark("nme: {common: 2.59}, epoch_chosen_on: guess"))
    module._read.cache_clear()
    with pytest.raises(InputError, match="epoch_chosen_on"):
        published("300w")


def test_the_committed_figures_have_auc_to_check_and_facts_to_judge_them_by():
    figures = [figure for dataset in DATASETS for figure in published(dataset)]
    assert sum(figure.metric.startswith("auc") for figure in figures) >= 8
    assert {f.judged_by.partition(";")[0] for f in figures if f.method == "STAR"} == {"epoch chosen on test"}
