"""The public table: few labelled images, against what people would use on the same features.

CIFAR-10, scikit-learn's digits and, where ``CLOTHING`` names a copy of it, the clothing photographs
of github.com/alexeygrigorev/clothing-dataset-small (CC0; any folder of class folders will do):

    CLOTHING=path/to/clothing make bench BENCH=few_images

It takes two hours of two cores. What is finished is kept, and read again by the next call that
names what to measure anew, as in ``TASKS="clothing:digits" make bench BENCH=few_images``.

Each draw takes so many images of each class at random; all are judged on the same test images.
The others choose their parameters on those very test images, so that none loses by bad luck.
"""

import contextlib
import io
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from scipy import stats
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from measuring import RESULTS, TABLE, keep, load_cifar10, row

IMAGES_A_CLASS = (1, 5, 10, 30, 100, 1_000)
N_DRAWS = 5
N_DRAWS_OF_MANY = 2  # from 1,000 images a class on, where fits take minutes and draws differ little
BOTH = ["mobilenet", "mobilenet_micro"]
BEST_OF_OURS = "tlclassify, two backbones, mirrored"
METRICS = ("euclidean", "cosine")
# Okabe and Ito's colours, which every colour vision tells apart; markers and lines differ too.
LINES = {
    "tlclassify": ("#0072b2", "o", "-"),
    BEST_OF_OURS: ("#0072b2", "D", "--"),
    "logistic regression": ("#009e73", "s", "-"),
    "linear SVM": ("#cc79a7", "^", "-"),
    "shrinkage LDA": ("#e69f00", "v", "-"),
    "nearest neighbours": ("#999999", "x", "-"),
    "Keras guide": ("#d55e00", "P", "-"),
}
# Browsers draw a picture as the page around it is, light or dark.
DARK = """@media (prefers-color-scheme: dark) { text { fill: #dfe3e8 }
[style*="fill: #ffffff"] { fill: #1e2129 !important }
[style*="stroke: #000000"] { stroke: #dfe3e8 !important }
[style*="fill: #000000"] { fill: #dfe3e8 !important }
[style*="stroke: #0072b2"] { stroke: #56b4e9 !important }
[style*="fill: #0072b2"] { fill: #56b4e9 !important } }"""
TARGETS = {
    ("CIFAR-10", "mobilenet"): {5: 0.58, 10: 0.67, 30: 0.76, 100: 0.81, 1_000: 0.855},
    ("clothing", "mobilenet"): {5: 0.49, 10: 0.59, 30: 0.72, 100: 0.785},
}


class Task(NamedTuple):
    """Images and labels to draw from, and those on which all are judged."""

    name: str
    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    aspect: str = "stretch"


class Row(NamedTuple):
    """The mean accuracy of a way over draws, and half the width of its 95 % interval."""

    task: str
    backbone: str
    n: int
    way: str
    accuracy: float
    half_width: float


def load_tasks() -> Iterator[Task]:
    """Yield CIFAR-10, the digits and, where it is at hand, the clothing."""
    from tlclassify.datasets import load_digits_rgb, load_image_folder

    X, y, X_test, y_test = load_cifar10()
    yield Task("CIFAR-10", X[:12_000], y[:12_000], X_test, y_test)
    sets = {"digits": load_digits_rgb()}
    if "CLOTHING" in os.environ:
        sets["clothing"] = load_image_folder(os.environ["CLOTHING"])
    for name, data in sets.items():
        X, y = np.asarray(data.X), data.y
        A, B, y_A, y_B = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
        yield Task(name, A, y_A, B, y_B)
        if name == "clothing":
            yield Task("clothing, cropped", A, y_A, B, y_B, aspect="crop")


def competitors(n_features: int) -> dict[str, list[Any]]:
    """Return what people would use, with the parameters among which each takes its best."""
    strengths = np.array([1, 3, 10, 30, 100]) / n_features
    return {
        "logistic regression": [LogisticRegression(C=C, max_iter=300) for C in strengths],
        "linear SVM": [LinearSVC(C=C) for C in strengths / 10],
        "nearest neighbours": [
            KNeighborsClassifier(k, metric=metric) for k in (1, 3, 7) for metric in METRICS
        ],
        "shrinkage LDA": [
            LinearDiscriminantAnalysis(solver="lsqr", shrinkage=s) for s in ("auto", 0.3, 0.7)
        ],
    }


def fit_keras_guide(
    features: np.ndarray, y: np.ndarray, features_test: np.ndarray, y_test: np.ndarray
) -> float:
    """Return the accuracy of Keras's guide: pooled features, dropout, softmax, Adam, 20 epochs."""
    import keras

    keras.utils.set_random_seed(0)
    classes, targets = np.unique(y, return_inverse=True)
    model = keras.Sequential(
        [keras.layers.Dropout(0.2), keras.layers.Dense(len(classes), activation="softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(features, targets, epochs=20, batch_size=32, verbose=0)
    found = model.predict(features_test, batch_size=1024, verbose=0).argmax(axis=1)
    return float((classes[found] == y_test).mean())


def score(model: Any, A: np.ndarray, y: np.ndarray, B: np.ndarray, y_test: np.ndarray) -> float:
    """Return the test accuracy of a model, 0 where it cannot be fitted to so few images."""
    with contextlib.suppress(ValueError):
        return float(model.fit(A, y).score(B, y_test))
    return 0.0


def draw(y: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Return the rows of n images of each class."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(np.flatnonzero(y == c))[:n] for c in np.unique(y)])


def bench_few_images() -> None:
    """Measure the default on 1 to 1,000 images a class, and what people would use instead."""
    path, wanted = RESULTS / "few_images.json", os.environ.get("TASKS", "").split(":")
    if path.is_file():
        TABLE.extend(Row(*line) for line in json.loads(path.read_text())["table"])
    for task in load_tasks():
        if any(wanted) and task.name not in wanted:
            continue
        with tempfile.TemporaryDirectory() as folder:
            for backbone in BOTH:
                new = measure_task(task, backbone, folder)
                TABLE[:] = [r for r in TABLE if r[:2] != (task.name, backbone)] + new
                keep("few_images")


def measure_task(task: Task, backbone: str, folder: str) -> list[Row]:
    """Return the rows of a task on the features of a backbone."""
    from tlclassify import FeatureExtractor, TransferClassifier

    options: dict[str, Any] = {"cache_dir": folder, "engine": "auto", "verbose": 0}
    _, X, y, X_test, y_test, options["aspect"] = task
    extractor = FeatureExtractor(backbone, **options).fit(X[:1])
    features, features_test = extractor.transform(X), extractor.transform(X_test)
    views = []
    if backbone == BOTH[0] and task.name == "CIFAR-10":
        both = FeatureExtractor(BOTH, **options).fit(X[:1])
        views = [both.transform(X_test), both.transform(X_test[:, :, ::-1])]
    rows: list[Row] = []
    for n in IMAGES_A_CLASS:
        if np.unique(y, return_counts=True)[1].min() < 0.9 * n:  # the rarest may lack some
            continue
        found: dict[str, list[float]] = {}
        seconds = []
        for seed in range(N_DRAWS if n < 1_000 else N_DRAWS_OF_MANY):
            drawn = draw(y, n, seed)
            clf = TransferClassifier(backbone, random_state=seed, **options)
            start = time.perf_counter()
            clf.fit(X[drawn], y[drawn])
            seconds.append(time.perf_counter() - start)
            ours = clf.classes_[clf.head_.predict_on_batch(features_test).argmax(axis=1)]
            if seed == 0:
                same = (clf.predict(X_test[:200]) == ours[:200]).mean()
                assert same > 0.98, f"the stored features are not those of the classifier: {same}"
            found.setdefault("tlclassify", []).append(float((ours == y_test).mean()))
            if views:
                best = TransferClassifier(BOTH, random_state=seed, augmentation="flip", **options)
                best.fit(X[drawn], y[drawn])
                p = np.mean([best.head_.predict_on_batch(view) for view in views], axis=0)
                right = best.classes_[p.argmax(axis=1)] == y_test
                found.setdefault(BEST_OF_OURS, []).append(right.mean())
            part = (features[drawn], y[drawn], features_test, y_test)
            found.setdefault("Keras guide", []).append(fit_keras_guide(*part))
            scaler = StandardScaler().fit(part[0])
            A, B = scaler.transform(part[0]), scaler.transform(part[2])
            others = competitors(features.shape[1])
            if n >= 1_000:
                # Only what comes near it, in the strengths that are best with so many.
                others = {"logistic regression": others["logistic regression"][:3]}
            scores = Parallel(n_jobs=-1)(
                delayed(score)(model, A, y[drawn], B, y_test)
                for models in others.values()
                for model in models
            )
            for way, models in others.items():
                found.setdefault(way, []).append(max(scores[: len(models)]))
                del scores[: len(models)]
        of_n = [Row(task.name, backbone, n, way, *interval(x)) for way, x in found.items()]
        report(of_n, float(np.median(seconds)))
        rows += of_n
    get_reusable_executor().shutdown()  # what it has worked counts as ours from now on
    return rows


def bench_penalty() -> None:
    """Measure which share of the penalty of a solved head is to be alike in all directions."""
    from tlclassify import FeatureExtractor, TransferClassifier
    from tlclassify.training import solving

    chosen = solving.ALIKE
    for task in load_tasks():
        for backbone in BOTH:
            with tempfile.TemporaryDirectory() as folder:
                options: dict[str, Any] = {"cache_dir": folder, "engine": "auto", "verbose": 0}
                options["aspect"] = task.aspect
                extractor = FeatureExtractor(backbone, **options).fit(task.X[:1])
                features = extractor.transform(task.X_test)
                for n in IMAGES_A_CLASS[1:-1]:
                    found: dict[float, list[float]] = {}
                    for seed in range(N_DRAWS):
                        drawn = draw(task.y, n, seed)
                        for share in (1.0, chosen, 0.7):
                            solving.ALIKE = share
                            clf = TransferClassifier(backbone, head="linear", **options)
                            clf.fit(task.X[drawn], task.y[drawn])
                            guess = clf.head_.predict_on_batch(features).argmax(axis=1)
                            right = clf.classes_[guess] == task.y_test
                            found.setdefault(share, []).append(100 * float(right.mean()))
                    alike = np.array(found.pop(1.0))
                    row(
                        f"{task.name}, {backbone}, {n} a class: all alike",
                        alike.mean(),
                        "%",
                        "",
                        None,
                    )
                    for share, accuracies in found.items():
                        gain, width = interval(list(accuracies - alike))
                        row(f"... gain at {share} (+- {width:.1f})", gain, "", "", None)
    solving.ALIKE = chosen


def interval(scores: list[float]) -> tuple[float, float]:
    """Return the mean over draws, and half the width of its 95 % interval."""
    width = stats.t.ppf(0.975, len(scores) - 1) * stats.sem(scores) if len(scores) > 1 else np.nan
    return float(np.mean(scores)), float(width)


def report(rows: list[Row], fit_seconds: float) -> None:
    """Print the rows of one number of images; the first is ours."""
    ours, *others = [row for row in rows if row.way != BEST_OF_OURS]
    target = TARGETS.get((ours.task, ours.backbone), {}).get(ours.n)
    reached = None if target is None else ours.accuracy >= target
    label = f"{ours.task}, {ours.backbone}, {ours.n} a class: accuracy (+- {ours.half_width:.3f})"
    row(label, ours.accuracy, "", "" if target is None else f">= {target}", reached)
    best = max(others, key=lambda other: other.accuracy)
    behind = best.accuracy - ours.accuracy
    row(f"... the best of the others ({best.way}) over it", behind, "", "<= 0.01", behind <= 0.01)
    row("... a fit on stored activations", fit_seconds, "s", "", None)


def write_table(table: list[Row], backbone: str) -> list[str]:
    """Return the rows of a backbone as lines of Markdown, the best of each in bold."""
    of_backbone = [r for r in table if r.backbone == backbone and r.accuracy]
    ways = sorted(dict.fromkeys(r.way for r in of_backbone), key=lambda way: way == BEST_OF_OURS)
    names = [way.removeprefix("tlclassify, ") for way in ways]
    lines = [f"| data | a class | {' | '.join(names)} |", "| --- " * (2 + len(ways)) + "|"]
    for task, n in dict.fromkeys((r.task, r.n) for r in of_backbone):
        found = {r.way: r for r in of_backbone if (r.task, r.n) == (task, n)}
        best = max(r.accuracy for way, r in found.items() if way != BEST_OF_OURS)
        cells = [show(found[way], best) if way in found else "" for way in ways]
        lines.append(f"| {task} | {n:,} | {' | '.join(cells)} |")
    return lines


def show(r: Row, best: float) -> str:
    """Return an accuracy with its interval, in bold where no other is higher."""
    mean = f"{r.accuracy:.3f}"
    return f"{f'**{mean}**' if r.accuracy == best else mean} ±\u00a0{r.half_width:.3f}"


def draw_picture(table: list[Row], path: Path) -> None:
    """Draw accuracy against images a class, one panel a task, for MobileNet."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    of_backbone = [r for r in table if r.backbone == BOTH[0] and r.accuracy]
    tasks = list(dict.fromkeys(r.task for r in of_backbone))
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tlclassify", "font.size": 12.5}):
        n_rows = -(-len(tasks) // 2)
        figure = Figure(figsize=(7, 3 * n_rows + 1.5), layout="constrained")
        axes = figure.subplots(n_rows, 2, sharex=True, sharey=True, squeeze=False).ravel()
        for ax, task in zip(axes, tasks, strict=False):
            for way, (color, marker, line) in LINES.items():
                found = [r for r in of_backbone if (r.task, r.way) == (task, way)]
                numbers = [(r.n, r.accuracy, r.half_width) for r in found]
                n, means, widths = np.reshape(numbers, (-1, 3)).T
                is_ours = way == "tlclassify"
                if is_ours:
                    ax.fill_between(n, means - widths, means + widths, color=color, alpha=0.2, lw=0)
                style = {"color": color, "marker": marker, "linestyle": line, "markersize": 4.5}
                width, order = (2.6, 5) if is_ours else (1.3, 3)
                ax.plot(n, means, label=way, linewidth=width, zorder=order, **style)
            ax.set(xscale="log", title=task)
            ax.set_xticks(IMAGES_A_CLASS, [f"{n:,}" for n in IMAGES_A_CLASS])
            ax.minorticks_off()
            ax.grid(alpha=0.3)
            ax.set(xlabel="labelled images a class", ylabel="test accuracy")
            ax.label_outer()
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncol=2, frameon=False)
        picture = io.StringIO()
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(picture, format="svg", metadata=no_metadata)
    svg = "<svg" + picture.getvalue().partition("<svg")[2]
    path.write_text(svg.replace("</defs>", f"</defs><style>{DARK}</style>", 1))
