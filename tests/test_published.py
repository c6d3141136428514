"""Published figures (stages/reporting/published.yaml) do not contradict themselves."""

import pytest

from stages.reporting.published import published

DATASETS = ("wflw", "300w", "cofw", "aflw")
SLACK = 0.15  # percent: papers round NME to 0.01 and AUC to 0.1, and NME counts 100/t-fold


@pytest.mark.parametrize("dataset", DATASETS)
def test_no_published_auc_is_below_what_its_nme_implies(dataset):
    """A face of error e adds max(0, 1 − e/t) ≥ 1 − e/t to the AUC up to t, so AUC@t ≥ 1 − NME/t for any errors."""
    figures = published(dataset)
    nme = {(f.method, f.source, f.subset): f.value for f in figures if f.metric == "nme"}
    broken = []
    for figure in figures:
        kind, _, threshold = figure.metric.partition("_")
        key = figure.method, figure.source, figure.subset
        if kind == "auc" and key in nme:
            least = 100 - nme[key] / float(threshold)
            if figure.value < least - SLACK:
                broken.append(
                    f"{figure.method} {figure.subset}: {figure.metric} is {figure.value}, at least {least:.2f}"
                )
    assert not broken


def test_the_rule_catches_a_row_that_breaks_it():
    """SPIGA's README gives AUC@8 44.20 for 300W common, whose NME of 2.59 implies at least 67.6."""
    assert 100 - 2.59 / 0.08 - SLACK > 44.20


def test_every_published_subset_has_figures_to_check():
    checked = [f for dataset in DATASETS for f in published(dataset) if f.metric.startswith("auc")]
    assert len(checked) >= 6
