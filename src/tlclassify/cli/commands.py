"""The command line: thin doors on the public functions, with their names and defaults.

Results go to standard output; progress, and warnings and errors of one line each, to standard
error.
"""

import csv
import io
import json
import os
import socket
import sys
import warnings
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any, NamedTuple, NoReturn

import tlclassify
from tlclassify.cli.arguments import SETTINGS, build_parser
from tlclassify.cli.streams import hushed, insistent, tell

_EXPORTS, _MODELS = (".onnx", ".xml"), (".onnx", ".xml", ".tlc")
# What is wrong with what was given. All else is a fault of the program, and shows where it lies.
_EXPECTED = (OSError, ValueError, TypeError, ImportError, MemoryError)
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_INTERRUPTED, _PIPE_CLOSED = 130, 141  # as shells count them: 128 and the signal's number


class _Answer(NamedTuple):
    """What a command has found: for people, for `--json` and for `--csv`."""

    text: str
    record: Any
    rows: Sequence[Mapping[str, Any]]


def _fit(options: Namespace) -> _Answer:
    _check_place("--output", options.output)
    if options.output.suffix in _EXPORTS:
        raise ValueError(
            f"--output must name a model of this program, such as plants.tlc; received "
            f"{options.output}. `tlclassify export` makes such a file of that model."
        )
    images = _read_labelled(options.photos, options)
    clf = _build_classifier(options).fit(images.X, images.y, groups=images.groups)
    tlclassify.save(clf, options.output, **_given(options, "card"))
    return _describe(options.output, clf)


def _evaluate(options: Namespace) -> _Answer:
    _check_page(options)
    images, clf = _read_labelled(options.photos, options), _load(options)
    choices = _given(options, "cv", "top_k", "confidence_level")
    with TemporaryDirectory() as folder:
        if "cv" in choices and not hasattr(options, "cache_dir") and hasattr(clf, "set_params"):
            # So that the folds run each photograph once in all.
            clf.set_params(cache_dir=folder)
        report = tlclassify.evaluate(clf, images.X, images.y, groups=images.groups, **choices)
    _write_page(options, report)
    record = report.to_dict()
    return _Answer(str(report), record, record["per_class"])


def _predict(options: Namespace) -> _Answer:
    from tlclassify._checks.files import list_images

    paths: list[str] = []
    for path in options.photos:
        found = list_images(path) if path.is_dir() else [str(path)]
        if path.suffix in _MODELS or not found:
            raise _wrong("PHOTOS", "image files, or folders with image files in them", path)
        paths += found
    choices = _given(options, "n_best", "threshold")
    table = tlclassify.predict_table(_load(options), paths, **choices)
    record = table.to_dict()
    # Names of files need not be text, which JSON is.
    rows = [row | {"path": path} for row, path in zip(record["predictions"], paths, strict=True)]
    return _Answer(_table(rows), record, rows)


def _compare(options: Namespace) -> _Answer:
    _check_page(options)
    if hasattr(options, "cv") and hasattr(options, "test_fraction"):
        raise ValueError("--test-fraction has no effect with --cv. Leave one of them out.")
    images = _read_labelled(options.photos, options)
    names = ("test_fraction", "cv", "cache_dir", "confidence_level", "random_state", "verbose")
    choices = {"classifier": _build_classifier(options), **_given(options, *names)}
    comparison = tlclassify.compare_backbones(
        options.names, images.X, images.y, groups=images.groups, **choices
    )
    if comparison.best is None:
        raise ValueError(str(comparison))
    _write_page(options, comparison)
    rows = comparison.to_dict()["rows"]
    for row in rows:
        report = row.pop("report") or {}
        row |= {key: report.get(key) for key in ("accuracy", "accuracy_interval", "log_loss")}
    return _Answer(str(comparison), comparison.to_dict(), rows)


def _export(options: Namespace) -> _Answer:
    clf, choices = _load(options), _given(options, "format", "precision")
    if hasattr(options, "calibration_images"):
        choices["calibration_images"] = _read_labelled(options.calibration_images, options).X
    record = {"path": str(tlclassify.export(clf, options.path, **choices))}
    return _Answer(record["path"], record, [record])


def _serve(options: Namespace) -> NoReturn:
    from tlclassify._checks.parameters import Interval, check_parameters, import_extra

    import_extra("fastapi", "serve", user="tlclassify serve")
    uvicorn = import_extra("uvicorn", "serve", user="tlclassify serve")
    from tlclassify.cli.serve import build_app

    host, port = getattr(options, "host", "127.0.0.1"), getattr(options, "port", 8000)
    check_parameters(("--port", port, Interval(0, 65535, integer=True)))
    app = build_app(_load(options), name=options.model.name)
    try:
        # Whoever reads the line below may ask at once, and waits until the server is ready.
        listener = socket.create_server((host, port), family=_FAMILIES[":" in host])
    except OSError as error:
        raise OSError(
            f"--host and --port must be an address of this machine and a free port; received "
            f"{host} and {port} ({error.strerror})."
        ) from error
    tell(f"{options.model} is at http://{host}:{listener.getsockname()[1]} until Ctrl-C")
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
    raise KeyboardInterrupt


def _info(options: Namespace) -> _Answer:
    if options.model is not None:
        return _describe(options.model, _load(options))
    names = ("name", "native_size", "n_features", "n_parameters", "licence")
    backbones = map(tlclassify.get_backbone, tlclassify.list_backbones())
    rows = [{name: getattr(row, name) for name in names} for row in backbones]
    return _Answer(_table(rows), rows, rows)


def _describe(path: Path, clf: Any) -> _Answer:
    """Return what a model says of itself."""
    from tlclassify.evaluation.text import training_text

    about: Any = getattr(clf, "metadata_", None) or clf.blueprint_
    record = {
        "model": str(path),
        "backbone": getattr(about, "backbone_name", about.backbone),
        "weights_licence": about.weights_licence,
        "training": training_text(getattr(clf, "history_", ())),
        "image_shape": [*clf.image_shape_],
    }
    if hasattr(clf, "classes_"):
        record["classes"] = clf.classes_.tolist()
    else:
        record["n_features"] = clf.n_features_
    cells = _flat(record)
    lines = [f"{key.replace('_', ' '):<16} {value}" for key, value in cells.items()]
    return _Answer("\n".join(lines), record, [cells])


def _load(options: Namespace) -> Any:
    """Return the model of a file, with the settings that are given; "info" takes extractors too."""
    path, settings = options.model, _given(options, "engine", "batch_size", "cache_dir")
    if path.is_dir() or not path.exists():
        raise _wrong("MODEL", "a file that `tlclassify fit` or `export` has written", path)
    if path.suffix in _EXPORTS:
        model = tlclassify.load_exported(path, **settings)
        if options.command != "info" and not hasattr(model, "classes_"):
            raise _wrong("MODEL", "a classifier, not an extractor", path)
        return model
    # Not as it was saved: who fits in silence may want to see how far predictions are.
    return tlclassify.load(path).set_params(verbose=getattr(options, "verbose", 1), **settings)


def _build_classifier(options: Namespace) -> Any:
    """Return the classifier with the parameters that are given."""
    names = [flag[2:].replace("-", "_") for flag in ("--backbone", *SETTINGS.split())]
    clf = tlclassify.TransferClassifier(**_given(options, *names))
    return clf.set_params(**dict(getattr(options, "set", ())))


def _read_labelled(path: Path, options: Namespace) -> Any:
    """Return the photographs of a folder or a table, with their labels."""
    from tlclassify import datasets
    from tlclassify._checks.files import IMAGE_SUFFIXES

    columns = _given(options, "path_column", "label_column", "group_column", "root")
    if path.is_dir():
        for name in columns:
            raise _wrong(f"PHOTOS with --{name.replace('_', '-')}", "a table", path)
        return datasets.load_image_folder(path, **_given(options, "verbose"))
    if path.suffix.lower() in (*_MODELS, *IMAGE_SUFFIXES) or not path.exists():
        raise _wrong(
            "PHOTOS", "a folder with one folder of photographs per class, or a table", path
        )
    return datasets.load_image_table(path, **columns)


def _wrong(name: str, wanted: str, path: Path) -> ValueError:
    """Return the error for a path to something else."""
    kind = "folder" if path.is_dir() else "model" if path.suffix in _MODELS else "file"
    received = f"the {kind} {str(path)!r}" if path.exists() else f"{str(path)!r}: no such file"
    return ValueError(f"{name} must be {wanted}; received {received}.")


def _check_page(options: Namespace) -> None:
    """See before the work whether the page can be drawn after it."""
    from tlclassify._checks.parameters import import_extra

    if hasattr(options, "html"):
        _check_place("--html", options.html)
        for module in ("jinja2", "matplotlib"):
            import_extra(module, "plot", user="--html")


def _write_page(options: Namespace, found: Any) -> None:
    """Write a page where one is asked for, and say where."""
    if hasattr(options, "html"):
        found.to_html(options.html)
        if getattr(options, "verbose", 1):
            tell(f"the page is {options.html}")


def _check_place(name: str, path: Path) -> None:
    """See before the work whether a file can be written after it."""
    if path.is_dir():
        raise IsADirectoryError(f"{name} must name a file; received the folder {path}.")
    folder = next(place for place in path.absolute().parents if place.exists())
    try:
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(
            f"{name} must lie where files can be written; received {path} ({error.strerror})."
        ) from error


def _given(options: Namespace, *names: str) -> dict[str, Any]:
    """Return the options that are given; for the others the functions have their own defaults."""
    return {name: getattr(options, name) for name in names if hasattr(options, name)}


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row without lists in its cells."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if key.endswith("_interval"):
            flat[f"{key}_low"], flat[f"{key}_high"] = value or (None, None)
        else:
            flat[key] = ", ".join(map(str, value)) if isinstance(value, list) else value
    return flat


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as people read them."""
    from tlclassify._checks.tables import align

    cells = [
        [f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()]
        for row in rows
    ]
    return align([[*rows[0]], *cells])


def _render(answer: _Answer, form: str) -> str:
    if form == "json":
        return json.dumps(answer.record, indent=2)
    if form == "csv":
        content, rows = io.StringIO(), [_flat(row) for row in answer.rows]
        cells = [[*rows[0]], *(row.values() for row in rows)]
        csv.writer(content, lineterminator="\n").writerows(cells)
        return content.getvalue().rstrip("\n")
    return answer.text


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, or 1 where what was given is not right."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # off by itself where there is no AVX-512
    options = build_parser().parse_args(argv)
    try:
        # Keras tells of its downloads on standard output, which is for results.
        with hushed(options), insistent(), redirect_stdout(sys.stderr), warnings.catch_warnings():
            tell_once = cache(tell)  # of what is said in each fold
            # Of tags, without a file's name.
            warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
            warnings.showwarning = lambda message, *_, **__: tell_once(f"warning: {message}")
            answer = _COMMANDS[options.command](options)
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Names of files come out byte by byte as they were read.
            sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
        print(_render(answer, options.form), flush=True)
    except KeyboardInterrupt:
        tell("interrupted")
        return _INTERRUPTED
    except BrokenPipeError:
        # At its end Python would write on into the closed pipe, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except _EXPECTED as error:
        if options.traceback:
            raise
        tell(f"error: {error or type(error).__name__}")
        return 1
    return 0


_COMMANDS = {
    "fit": _fit,
    "evaluate": _evaluate,
    "predict": _predict,
    "compare": _compare,
    "export": _export,
    "serve": _serve,
    "info": _info,
}
