"""Whatever a file holds, loading it ends in a classifier or in a ValueError, and nothing else.

Nothing in it is run, nothing is written, and memory stays within a bound.
"""

import json
import pickle
import tracemalloc
import warnings
from dataclasses import replace
from pathlib import Path

import keras
import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from conftest import build_tiny
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.networks import backbones
from tlclassify.networks.rows import SYMMETRIC, Backbone
from tlclassify.persistence import saved_file, saving
from tlclassify.persistence.saved_file import NO_DIGEST, read_file, write_file
from tlclassify.persistence.saving import load, save
from tlclassify.training.stages import Stage

pytestmark = pytest.mark.usefixtures("registered")
ROW = Backbone("tiny", build_tiny, SYMMETRIC, native_size=8, small_size=8, min_size=4)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved file; `trained` on images that do not matter."""
    params = {"head": "linear", "head_stage": Stage(1), "random_state": 0, "verbose": 0}
    X = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    clf = TransferClassifier(ROW, weights=None, **params).fit(X, list("abc") * 8)
    path = tmp_path_factory.mktemp("saved") / "saved.tlc"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backbones._registry, "tiny", ROW)
        save(clf, path)
    return path


@pytest.fixture
def refuse(tmp_path):
    """A function that sees content refused, with nothing run, written or held in memory."""

    def check(content, match):
        if not isinstance(content, Path):
            (tmp_path / "bad.tlc").write_bytes(content)
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match="path must name a whole file that save") as caught:
                load(tmp_path / "bad.tlc")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        caught.match(match)
        assert peak < 16 * 2**20
        assert len(str(caught.value)) < 1500
        assert [path.name for path in tmp_path.iterdir()] == ["bad.tlc"]

    return check


@pytest.fixture
def rewrite(saved, tmp_path):
    """A function that writes the file with another manifest or other arrays, and a right digest."""

    def write(*path, value=None, arrays=None):
        manifest = msgspec.to_builtins(read_file(saved)[0]) | {"sha256": NO_DIGEST}
        inner = manifest
        for key in path[:-1]:
            inner = inner[key]
        if path:
            inner[path[-1]] = value
        else:
            manifest |= value or {}
        text = json.dumps(manifest, separators=(",", ":"))
        write_file(tmp_path / "bad.tlc", text, load_file(saved) | (arrays or {}))
        return tmp_path / "bad.tlc"

    return write


@pytest.fixture
def unbuilt(monkeypatch):
    """A test whose file must be refused before a network takes memory."""
    monkeypatch.setattr(saving, "build_frozen", lambda *_, **__: pytest.fail("was built"))


def test_what_these_tests_change_is_sound(rewrite, saved):
    assert rewrite().read_bytes() == saved.read_bytes()
    assert load(rewrite("temperature", value=3.0)).temperature_ == 3


# Damage


def test_a_file_cut_off_anywhere(saved, refuse, unbuilt):
    content = saved.read_bytes()
    for length in [*range(0, len(content), 97), len(content) - 1]:
        refuse(content[:length], "is none: ")
    refuse(content + b"\n", "is none: ")


def test_a_flipped_bit_anywhere(saved, refuse, unbuilt):
    content = saved.read_bytes()
    for place in {*range(16), *range(16, len(content), 61), len(content) - 1}:
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        refuse(bytes(changed), "is none: ")


def test_files_of_other_kinds(refuse, tmp_path, unbuilt):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    for name in ("model.keras", "model.h5"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.save(tmp_path / name)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        refuse(content, "a zip archive|is none: ")
    save_file({"a": np.zeros(3)}, tmp_path / "bad.tlc")
    refuse(tmp_path, "it holds arrays, but says nothing of a classifier")
    for content in (b"", b"P", pickle.dumps({"a": 1}), b"a text\n" * 100, bytes(1000)):
        refuse(content, "is none: ")


def test_a_folder_and_nothing(tmp_path):
    with pytest.raises(IsADirectoryError, match="directory"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match="No such file"):
        load(tmp_path / "missing.tlc")


# Manifests


@pytest.mark.parametrize("version", [0, 3, 10**9])
def test_another_format(refuse, rewrite, unbuilt, version):
    match = f"its format version is {version}, and this tlclassify reads 4"
    refuse(rewrite("format_version", value=version), match)


RIGHT = {
    "history": [[]],
    "probe": [[]],
    "versions": [{}, {"type": "Part"}],
    "parameters": [{}],
    "weights": [None, "x"],
    "is_mirrored": [True],
    "head": [],
    "backbone": ["x"],
}


def test_entries_of_wrong_types(refuse, rewrite, saved, unbuilt):
    for name in msgspec.to_builtins(read_file(saved)[0]):
        for value in (None, True, -1, 1e300, "x", [], [[[]]], {}, {"type": "Part"}):
            if value not in RIGHT.get(name, []):
                refuse(rewrite(name, value=value), "is none: ")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("more",), 1),
        (("parameters", "head"), {"type": "Part", "kind": "Lambda", "params": {}}),
        (("head", "kind"), "Stage"),
        (("head", "params", "units"), 3),
        (("head", "params", "activation"), "exponential"),
        (("image_size",), 100_000),
        (("image_shape",), [100_000, 100_000, 3]),
        (("image_shape",), [8, 8, 4]),
        (("dtype_policy",), "int8_from_float32"),
        (("temperature",), 0),
        (("pixel_range",), 2),
        (("history",), [{"stage": "head", "loss": [1]}]),
        (("backbone",), "convnext_xlarge"),
        (("backbone",), {"type": "Function", "name": "os.system", "code": "x"}),
    ],
)
def test_entries_that_cannot_be(refuse, rewrite, unbuilt, path, value):
    refuse(rewrite(*path, value=value), "is none: ")


@pytest.mark.parametrize(
    ("dtype", "labels"),
    [
        ("<U999999", ["a", "b", "c"] * 10),
        ("|O", ["a", "b", "c"]),
        ("|u1", [1, 2, 300]),
        ("<U1", ["a", "b", "b"]),
    ],
)
def test_classes_that_cannot_be(refuse, rewrite, unbuilt, dtype, labels):
    refuse(rewrite(value={"classes": labels, "classes_dtype": dtype}), "is none: ")


def test_parameters_that_cannot_be(refuse, rewrite, unbuilt):
    refuse(rewrite("parameters", "unknown", value=1), "is none: .*unknown")
    part = {"type": "Part", "kind": "Stage", "params": {"rate": 1}}
    refuse(rewrite("parameters", "head_stage", value=part), "is none: .*rate")


def test_a_manifest_without_end(rewrite, unbuilt):
    with pytest.raises(ValueError, match="its manifest has 33,55.* bytes, more than 33,554,432"):
        load(rewrite("weights", value="x" * 2**25))


def test_nested_lists_without_end(refuse, rewrite, saved, tmp_path, unbuilt):
    text = json.dumps({"format_version": 2, "history": 0}).replace("0}", "[" * 10**5 + "]" * 10**5)
    write_file(tmp_path / "bad.tlc", text + "}", load_file(saved))
    refuse(tmp_path, "is none: ")


@pytest.mark.parametrize("name", ["os.system", "keras.layers.Lambda", "../tiny"])
def test_names_of_code_are_not_looked_up(rewrite, name):
    with pytest.raises(ValueError, match=f"{name!r}, which is not registered here"):
        load(rewrite("backbone", value=name))
    with pytest.raises(ValueError, match=f"head must be what .*, once {name!r}; received None"):
        load(rewrite("head", value={"type": "Function", "name": name}))


# Arrays


@pytest.mark.parametrize("value", [0, np.nan, np.inf])
def test_weights_that_answer_differently(refuse, rewrite, saved, value):
    head = {n: a for n, a in load_file(saved).items() if n.startswith("head/")}
    changed = rewrite(arrays={name: np.full_like(array, value) for name, array in head.items()})
    refuse(changed, "probe image gets probabilities that differ by")


@pytest.mark.parametrize(
    "arrays",
    [
        {"head/00000": np.zeros((13, 3), np.float32)},
        {"head/00002": np.zeros(3, np.float32)},
        {"backbone/99999": np.zeros(3, np.float32)},
        {"root_standardization/00000": np.zeros(13, np.float32)},
        {"backbone/00000": np.array(3.0)},
    ],
)
def test_arrays_of_other_shapes(refuse, rewrite, arrays):
    refuse(rewrite(arrays=arrays), "is none: ")


@pytest.mark.parametrize(("hidden_units", "width"), [([], 1), ([10**9], 12), ([10**6] * 64, 12)])
def test_a_head_whose_weights_are_not_in_the_file(
    refuse, rewrite, monkeypatch, hidden_units, width
):
    monkeypatch.setattr(saving, "build_head", lambda *_, **__: pytest.fail("was built"))
    arrays = {"head/00000": np.zeros((width, 3), np.float32)}
    rewrite("head", "params", "hidden_units", value=hidden_units, arrays=arrays)
    refuse(Path(), "it has arrays for the head that do not fit the head's layers")


def test_a_network_of_other_shapes(refuse, rewrite, tiny, monkeypatch):
    def build_other(x):
        return keras.layers.Conv2D(12, 3, padding="same", name="three")(tiny.builder(x))

    monkeypatch.setitem(backbones._registry, "tiny", replace(tiny, builder=build_other))
    rewrite()
    refuse(Path(), "weight list of length 8, but the layer was expecting 10")


def test_a_probe_is_the_same_for_a_shape_and_for_no_mirror_image():
    first = saved_file.make_probe((8, 9, 3))
    assert first.shape == (1, 8, 9, 3)
    np.testing.assert_array_equal(first, saved_file.make_probe((8, 9, 3)))
    for other in (first[:, ::-1], first[:, :, ::-1], first[..., ::-1]):
        assert np.abs(first.astype(int) - other).mean() > 20
