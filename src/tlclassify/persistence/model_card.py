"""A page for people beside a saved classifier: what it is, and how good."""

import html
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

from tlclassify.analysis.evaluate import list_versions
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.evaluation import EvaluationReport
from tlclassify.evaluation.text import training_text
from tlclassify.networks.backbones import get_backbone


def build_model_card(clf: TransferClassifier, *, report: EvaluationReport | None = None) -> str:
    """Return a model card in Markdown; without a report it says that there are no figures."""
    blueprint, (height, width, _) = clf.blueprint_, clf.image_shape_
    model = [
        ("Backbone", blueprint.backbone_name),
        ("Published in", get_backbone(blueprint.backbone).paper or "unknown"),
        ("Licence of the pretrained weights", blueprint.weights_licence),
        ("Head", blueprint.head),
        ("Weights", f"{clf.model_.count_params():,}"),
        ("Images are seen at", ", ".join(f"{n} x {n} pixels" for n in blueprint.image_sizes)),
        ("Images that are not square", blueprint.framing.aspect),
        ("Views at prediction", "image and mirror image" if blueprint.is_mirrored else "image"),
        ("Precision", blueprint.dtype_policy),
        ("Learnt by", training_text(clf.history_)),
        ("Temperature", f"{clf.temperature_:.4g}"),
        ("Written", datetime.now(timezone.utc).date().isoformat()),
    ]
    counts = blueprint.class_counts
    n_training, *n_validation = map(sum, counts)
    use = "measure it" if all("C" in row for row in clf.history_) else "choose the best epoch"
    held_out = f", and {n_validation[0]:,} to {use}" if n_validation else ""
    pixels = f"RGB of {height} x {width} pixels; in floating point, white is {clf.pixel_range_}"
    titles = ("class", "training", "validation")[: 1 + len(counts)]
    by_class = _table(titles, zip(clf.classes_.tolist(), *counts, strict=True))
    params = [(name, repr(value)) for name, value in sorted(clf.get_params(deep=False).items())]
    figures = ["No figures were given: `save(clf, path, card=True, report=evaluate(clf, X, y))`."]
    if report is not None:
        # Set in by four, it is text as it stands, whatever is in the names of classes.
        table = [f"    {line}".rstrip() for line in str(report).splitlines()]
        day = report.origin.created[:10]
        figures = [f"Measured on {day}, with an interval by Wilson.", "", *table]
    sections = {
        "Model": _table(("", ""), model),
        "Training data": [
            f"Trained on {n_training:,} images{held_out}. Images are {pixels}.",
            "",
            *by_class,
        ],
        "Evaluation": figures,
        "Configuration": _table(("parameter", "value"), params),
        "Versions": _table(("", "version"), list_versions().items()),
    }
    lines = [f"# Classifier of {len(clf.classes_):,} classes on {_cell(clf.backbone_.name)}", ""]
    for title, content in sections.items():
        lines += [f"## {title}", "", *content, ""]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    """Return a value as text that Markdown takes for nothing else."""
    text = html.escape(" ".join(str(value).split()), quote=False)
    return "".join(f"\\{letter}" if letter in "\\`*_[]|#" else letter for letter in text)


def _table(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    lines = [titles, ["---"] * len(titles), *([_cell(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]
