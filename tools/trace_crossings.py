"""Count the files that a call enters, and how often it crosses from one file to another.

    python tools/trace_crossings.py          # a fit of a head on 24 tiny images, and a prediction
    python tools/trace_crossings.py --pairs  # with the crossings of each pair of files

A crossing is a call from a function of one file of the package to a function of another, whatever
lies between them in other libraries. Module bodies, comprehensions and lambdas are no functions.
"""

import argparse
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import keras
import numpy as np

import tlclassify
from tlclassify import Backbone, Scaling, Stage, TransferClassifier

HOME = f"{Path(tlclassify.__file__).parent}/"


def trace(work: Callable[[], object]) -> Counter[tuple[str, str]]:
    """Return how often `work` calls from one file of the package into another."""
    found: Counter[tuple[str, str]] = Counter()

    def watch(frame: FrameType, event: str, _: object) -> None:
        here = frame.f_code.co_filename
        if event != "call" or not here.startswith(HOME) or frame.f_code.co_name.startswith("<"):
            return
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(HOME):
            caller = caller.f_back
        there = here if caller is None else caller.f_code.co_filename
        found[there.removeprefix(HOME), here.removeprefix(HOME)] += 1

    threading.setprofile(watch)
    sys.setprofile(watch)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return found


def show(name: str, found: Counter[tuple[str, str]], *, pairs: bool) -> None:
    """Print the figures of one call."""
    crossings = {pair: n for pair, n in found.items() if pair[0] != pair[1]}
    files = {file for pair in found for file in pair}
    print(f"{name}: {len(files)} files entered, {sum(crossings.values())} crossings")
    if pairs:
        for (caller, called), n in sorted(crossings.items(), key=lambda item: -item[1]):
            print(f"  {n:4d}  {caller} -> {called}")


def build_tiny(x: keras.KerasTensor) -> keras.KerasTensor:
    """Return the feature map of a network of one convolution."""
    return keras.layers.Conv2D(12, 3, strides=2, padding="same", activation="relu")(x)


def main() -> None:
    """Trace a fit of a head and a prediction."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", action="store_true")
    pairs = parser.parse_args().pairs
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    y = np.array(["cat", "dog", "eel"])[np.arange(24) % 3]
    row = Backbone("tiny", build_tiny, Scaling(), native_size=8, small_size=8, min_size=4)
    clf = TransferClassifier(row, weights=None, head_stage=Stage(10), random_state=0, verbose=0)
    show("fit by 10 epochs", trace(lambda: clf.fit(X, y)), pairs=pairs)
    clf.set_params(head_stage="auto")
    show("fit by default", trace(lambda: clf.fit(X, y)), pairs=pairs)
    show("predict_proba", trace(lambda: clf.predict_proba(X)), pairs=pairs)


if __name__ == "__main__":
    main()
