"""Whatever a manifest says, and whatever is changed at random, is refused or does no harm."""

import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostile import CONTENT, MANIFEST, answers, pack, put, unpack, with_manifest

QUICK = settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


pytestmark = pytest.mark.usefixtures("registered")


WRONG = (None, True, -1, 1e300, "x" * 5000, [], [[[]]], {}, {"tuple": 3}, {"float": "1"})
RIGHT = {
    "history": [[]],
    "versions": [{}, {"float": "1"}],
    "parameters": [{}],
    "weights": [None, "x" * 5000],
}


@pytest.mark.parametrize("name", sorted(json.loads(unpack()[MANIFEST])))
def test_entries_of_wrong_types(refuse, unbuilt, name):
    for value in WRONG:
        if value not in RIGHT.get(name, []):
            refuse(with_manifest(put(name, value=value)), "its manifest|its format|not registered")
    refuse(with_manifest(lambda manifest: manifest.pop(name)), "its manifest|its format")


@pytest.mark.parametrize("version", [0, 2, 10**19, "1", 1.0, True, [1], None])
def test_an_unknown_format(refuse, version):
    refuse(with_manifest(put("format_version", value=version)), "A later tlclassify may read it")


def test_an_unknown_backbone(refuse):
    change = put("backbone", value="os.system")
    refuse(with_manifest(change), "'os.system', which is not registered here")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("head",), {"Head": {"hidden_units": {"tuple": [10**9]}}}),
        (("head",), {"Head": {"hidden_units": {"tuple": []}, "activation": "exponential"}}),
        (("head",), {"Stage": {}}),
        (("head",), {"Lambda": {}}),
        (("head",), {"Head": {"units": 3}}),
        (("image_size",), 100_000),
        (("image_shape",), [100_000, 100_000, 3]),
        (("image_shape",), [8, 8, 4]),
        (("image_shape",), [8, 8]),
        (("n_features",), 2**31),
        (("dtype_policy",), "int8_from_float32"),
        (("temperature",), 0),
        (("classes",), {"dtype": "<U999999", "labels": ["a", "b", "c"] * 1000}),
        (("classes",), {"dtype": "|O", "labels": ["a", "b", "c"]}),
        (("classes",), {"dtype": "|u1", "labels": [1, 2, 300]}),
        (("classes",), {"dtype": "<U1", "labels": ["a", "b", "cc"]}),
        (("classes",), {"dtype": "<U1", "labels": ["a", "b", "b"]}),
        (("classes",), {"dtype": "<i8", "labels": [1, 2, "3"]}),
        (("class_counts",), [[1, 2]]),
        (("probe",), [0.5, 0.5]),
        (("history",), [{"stage": 3}]),
        (("history",), [{"stage": "head", "loss": [1]}]),
        (("arrays", "standardization"), []),
        (("arrays", "weights"), []),
        (("parameters", "cache_dir"), "/tmp"),
        (("parameters", "engine"), "openvino"),
        (("parameters", "callbacks"), []),
        (("parameters", "class_weight"), {"pairs": [[["a"], 1.0]]}),
        (("parameters", "class_weight"), {"pairs": [["a", -1.0]]}),
        (("parameters", "head_stage"), {"Head": {}}),
        (("parameters", "augmentation"), {"Augmentation": {"n_views": 0}}),
        (("parameters", "batch_size"), 0),
        (("parameters", "verbose"), "yes"),
        (("parameters", "weights"), {"function": "os.system"}),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else "",
)
def test_entries_beyond_their_limits(refuse, unbuilt, path, value):
    refuse(with_manifest(put(*path, value=value)), "its manifest|its members")


def test_many_hidden_layers(refuse, unbuilt):
    change = put("head", value={"Head": {"hidden_units": [1] * 2000}})
    refuse(with_manifest(change), "hidden_units must name 64 layers or fewer; received 2,000")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "Expecting value"),
        (b"[" * 200_000, "recursion"),
        (b'{"a":' * 200_000, "recursion"),
        (b"[" + b"9" * 1000 + b"]", "an integer of 1,000 digits"),
        (b"[NaN]", "a number that is not finite"),
        (b"[1e999]", "a number that is not finite"),
        (b'{"format": "tlclassify", "format": ""}', "says something twice"),
        (b'{"format": "\xff"}', "codec can't decode byte 0xff"),
        (b"\xef\xbb\xbf{}", "codec can't decode byte 0xef"),
        (b"null", "not that of a classifier"),
        (b"[" + b"[]," * 300_000 + b"[]]", "not that of a classifier"),
    ],
    ids=range(11),
)
def test_a_manifest_that_is_no_json_of_ours(refuse, text, message):
    refuse(pack({MANIFEST: text}), f"is none: .*{message}", limit_bytes=32 * 2**20)


@pytest.mark.parametrize("shape", [[6], [12, 1], []])
def test_a_standardization_of_another_width(refuse, unbuilt, shape):
    change = put("arrays", "standardization", 1, "shape", value=shape)
    refuse(with_manifest(change), "manifest has a standardization of another width than its feat")


def test_a_long_manifest(refuse):
    refuse(pack({MANIFEST: bytes(2**23)}), "manifest has 8,388,608 bytes, not 4,194,304 or fewer")


# Anything


@QUICK
@given(st.lists(st.tuples(st.integers(0, len(CONTENT) - 1), st.integers(1, 255)), min_size=1))
def test_any_changed_bytes(tmp_path, changes):
    changed = bytearray(CONTENT)
    for place, difference in changes:
        changed[place] ^= difference
    with contextlib.suppress(ValueError):
        assert answers(bytes(changed), tmp_path).shape == (4, 3)


def places(value, path=()):
    """Every path into a manifest."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*path, key)
        if isinstance(item, dict | list):
            yield from places(item, (*path, key))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**33) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)


@QUICK
@given(st.sampled_from(list(places(json.loads(unpack()[MANIFEST])))), VALUES)
def test_any_changed_entry(tmp_path, path, value):
    with contextlib.suppress(ValueError):
        assert answers(with_manifest(put(*path, value=value)), tmp_path).shape == (4, 3)
