"""Laws of the restricted unpickler: arrays come through, nothing else does, nothing runs."""

import os
import pickle
import struct

import numpy as np
import pytest

from tlclassify.datasets import _unpickle
from tlclassify.datasets._unpickle import load_pickled_dict, uint8_array

ARRAY = np.arange(12, dtype=np.uint8).reshape(3, 4)


def read_array(path, shape=(3, 4)):
    return uint8_array(load_pickled_dict(path)["data"], shape=shape, name="data")


def short(text):
    return b"U" + bytes([len(text)]) + text  # SHORT_BINSTRING, as Python 2 writes str


def python2_pickle(shape=(3, 4), raw=bytes(range(12)), code=b"u1", fortran=b"\x89"):
    """Return what Python 2's cPickle wrote for {'data': array, 'labels': [3]} at protocol 2."""
    dtype = (
        b"cnumpy\ndtype\n" + short(code) + b"K\x00K\x01\x87R"
        b"(K\x03" + short(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    state = b"(K\x01" + b"".join(b"K" + bytes([n]) for n in shape) + b"\x86" + dtype + fortran
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + short(b"b") + b"\x87R"
    )
    return (
        b"\x80\x02}q\x01(" + short(b"data") + array + state + short(raw) + b"tb"
        b"" + short(b"labels") + b"]K\x03au."
    )


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_come_through_every_protocol(tmp_path, protocol):
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps({"data": ARRAY, "labels": [1, 2], "b": b"x"}, protocol=protocol))
    assert np.array_equal(read_array(path), ARRAY)
    assert load_pickled_dict(path)["labels"] == [1, 2]


def test_both_spellings_of_numpy_and_python_2_strings_come_through(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(python2_pickle())
    new.write_bytes(python2_pickle().replace(b"numpy.core.", b"numpy._core."))
    assert np.array_equal(read_array(old), ARRAY)
    assert np.array_equal(read_array(new), ARRAY)
    assert load_pickled_dict(old)["labels"] == [3]


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_code_in_a_pickle_is_named_and_does_not_run(tmp_path, protocol):
    witness, path = tmp_path / "it_ran", tmp_path / "batch"
    path.write_bytes(pickle.dumps({"data": Evil(os.mkdir, str(witness))}, protocol=protocol))
    expected = "uses the instruction" if protocol == 0 else r"batch must be.*asks for posix\.mkdir"
    with pytest.raises(ValueError, match=expected):
        load_pickled_dict(path)
    assert not witness.exists()
    # The same bytes do run where pickles are trusted, so the test can fail.
    pickle.loads(path.read_bytes())
    assert witness.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x04cbuiltins\neval\n.", r"asks for builtins\.eval"),
        (b"\x80\x04cnumpy\nload\n.", r"asks for numpy\.load"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0fdtype.__class__\x93.", r"asks for numpy\.dtype\.__class__"),
        (b"\x80\x02\x82\x01.", "uses the instruction EXT1"),
        (b"\x80\x02K\x01Q.", "uses the instruction BINPERSID"),
        (b"\x80\x02]r\xff\xff\xff\x7f.", "claims more memory"),
        (b"\x80\x02)" + b"\x85" * 5000 + b".", "5000 tuples"),
        (b"\x80\x02].", "holds a list"),
        (b"", "was refused"),
        (pickle.dumps({"data": b"x" * 100})[:-20], "was refused"),
        (b"\x80\x02c_codecs\nencode\nU\x01aU\x05utf-8\x86R.", "was refused"),
    ],
)
def test_hostile_or_damaged_pickles_are_refused(tmp_path, content, message):
    path = tmp_path / "batch"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_pickled_dict(path)


def test_a_pickle_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "batch"
    with path.open("wb") as file:
        file.truncate((1 << 26) + 1)
    with pytest.raises(ValueError, match="at most 67,108,864 bytes"):
        load_pickled_dict(path)


def test_a_pickle_cannot_change_the_stand_ins(tmp_path):
    path = tmp_path / "batch"
    # BUILD with (None, {"code": "u1"}) sets an attribute of the class that GLOBAL gave.
    path.write_bytes(b"\x80\x02}(U\x01ac_codecs\nencode\nN}X\x04\x00\x00\x00codeU\x02u1s\x86bu.")
    assert load_pickled_dict(path)["a"].code == b"u1"
    assert not hasattr(_unpickle.EncodedText, "code")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"data": np.array([[{}, []]], dtype=object)}), "dtype code 'O8'"),
        (pickle.dumps({"data": np.zeros((3, 4))}), "dtype code 'f8'"),
        (pickle.dumps({"data": np.zeros((4, 3), np.uint8)}), r"received shape \(4, 3\)"),
        (python2_pickle(shape=(3, 200)), r"received shape \(3, 200\)"),
        (python2_pickle(raw=b"\x00" * 11), "must hold 12 bytes; received 11"),
        # An object array whose bytes would be taken for pointers.
        (python2_pickle(code=b"O8", raw=struct.pack("<12Q", *[1] * 12)), "dtype code 'O8'"),
        (python2_pickle(fortran=b"\x88"), "array in column order"),
        (pickle.dumps({"data": [1, 2]}), "received something else"),
        (pickle.dumps({"data": "text"}), "received something else"),
    ],
)
def test_only_the_array_that_is_wanted_is_made(tmp_path, content, message):
    path = tmp_path / "batch"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_array(path)


def test_a_huge_shape_takes_no_memory(tmp_path):
    path = tmp_path / "batch"
    huge = b"\x8a\x05\x00\x00\x00\x00\x40"  # LONG1: 2**38
    path.write_bytes(python2_pickle().replace(b"(K\x01K\x03", b"(K\x01" + huge))
    with pytest.raises(ValueError, match=r"received shape \(274877906944, 4\)"):
        read_array(path)
