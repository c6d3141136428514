"""What a reader must know of somebody else's predictions, for the results page and their own page."""

from collections.abc import Sequence

from stages.metrics.provenance_schema import Provenance, SubmissionFacts
from stages.reporting.entries import Entry
from stages.reporting.tables import folded, markdown_table, milliseconds

BOXES = {"annotation": "annotated landmarks", "dataset": "dataset's rectangle", "detector": "a detector's",
         "image": "whole image", "unknown": "unknown"}  # fmt: skip
EPOCHS = {"not applicable": "–", "last": "none: the last"}


def link(facts: SubmissionFacts) -> str:
    return f"[{facts.title}]({facts.url})" if facts.url else facts.title


def _converted(made: Provenance) -> str:
    """`98 of scheme wflw, of which 68 correspond`, where the landmarks are not those of the dataset."""
    facts = made.submission
    if facts.count == made.landmark_count == len(made.landmarks):
        return "as annotated"
    return f"{facts.count} of scheme {facts.scheme}, of which {len(made.landmarks)} correspond"


def section(entries: Sequence[Entry]) -> str:
    """A table of the submissions among the rows; empty where there are none."""
    rows = []
    for entry in entries:
        made = entry.first.provenance
        if facts := made.submission:
            rows.append((
                entry.name, link(facts), facts.trained_on, facts.extra_data,
                EPOCHS.get(facts.epoch_chosen_on, facts.epoch_chosen_on), BOXES[facts.box], _converted(made),
            ))  # fmt: skip
    if not rows:
        return ""
    header = ("submission", "method", "trained on", "extra data", "epoch chosen on", "face box", "landmarks")
    return f"What others have submitted:\n\n{markdown_table(header, rows, left=7)}"


def page_section(made: Provenance, machine: str) -> str:
    """How it was made, for its own page. machine: where it was measured."""
    facts = made.submission
    moved = facts.annotation_origin - facts.origin
    numbering = f"the first pixel's centre is {facts.origin}, in the annotation {facts.annotation_origin}"
    rows = [
        ("method", link(facts)),
        ("described in", f"[params/submissions/{facts.described_in}.yaml]"
                         f"(../../params/submissions/{facts.described_in}.yaml)"),
        ("predictions", f"`{facts.source}`, form {facts.form}"),
        ("pixels", f"{numbering}" + (f", so moved by {moved:+d}" if moved else "")),
        ("landmarks", _converted(made)),
        ("trained on", facts.trained_on),
        ("extra data", facts.extra_data),
        ("epoch chosen on", facts.epoch_chosen_on),
        ("face box", BOXES[facts.box]),
        ("licence", facts.licence or "not stated"),
    ]  # fmt: skip
    if facts.seed is not None:
        rows.append(("seed", str(facts.seed)))
    if facts.milliseconds is not None:
        rows.append(("time", f"{milliseconds(facts.milliseconds)} ms a face, the method alone; {facts.cpu}"))
    rows += [("measured on", machine), ("MLflow run", f"{made.run or 'none'}, fingerprint {made.fingerprint}")]
    parts = ["## How it was made\n", markdown_table(("", ""), rows, left=2)]
    if facts.warnings:
        parts.append(folded("Noticed when the predictions were read", "".join(f"- {w}\n" for w in facts.warnings)))
    return "\n".join(parts)
