"""Whatever an archive holds, loading it ends in a classifier or in a ValueError, and nothing else.

Nothing in it is run, nothing is written, and memory stays within a bound.
"""

import contextlib
import copy
import hashlib
import io
import json
import pickle
import stat
import struct
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from hostile import (
    CONTENT,
    FIRST,
    MANIFEST,
    answers,
    pack,
    put,
    unpack,
    with_manifest,
    with_member,
)
from tlclassify.networks import backbones, blueprints
from tlclassify.persistence.saved_files import Member
from tlclassify.persistence.saving import load, saved_classifiers

END, ENTRY = 22, b"PK\x01\x02"


pytestmark = pytest.mark.usefixtures("registered")


def test_what_these_tests_change_is_sound(tmp_path):
    expected = answers(CONTENT, tmp_path)
    np.testing.assert_array_equal(answers(pack(unpack()), tmp_path), expected)
    np.testing.assert_array_equal(answers(with_member(unpack()[FIRST]), tmp_path), expected)


# The archive


def test_a_file_cut_off_anywhere(refuse):
    for length in [*range(0, len(CONTENT), 59), len(CONTENT) - 1]:
        refuse(CONTENT[:length], "path must name a whole file that save wrote; .* is none")


def test_a_flipped_byte_in_any_member(refuse):
    with zipfile.ZipFile(io.BytesIO(CONTENT)) as archive:
        for member in archive.infolist():
            start = member.header_offset + 30 + len(member.filename)
            for place in {0, 9, 40, 127, member.file_size // 2, member.file_size - 1}:
                changed = bytearray(CONTENT)
                changed[start + place] ^= 0x55
                refuse(bytes(changed), "SHA-256|does not begin as the array|Bad CRC-32")


def test_flipped_bytes_between_the_members(tmp_path):
    """Some say nothing that counts, such as the date; then the answers are the same."""
    expected = answers(CONTENT, tmp_path)
    with zipfile.ZipFile(io.BytesIO(CONTENT)) as archive:
        table = archive.start_dir
    header = range(30 + len(FIRST))
    entry = range(table, table + 46 + len(FIRST))
    for place in [*header, *entry, *range(len(CONTENT) - END, len(CONTENT))]:
        changed = bytearray(CONTENT)
        changed[place] ^= 0x41
        with contextlib.suppress(ValueError):
            np.testing.assert_array_equal(answers(bytes(changed), tmp_path), expected)


def test_a_zip_bomb(refuse):
    members = unpack() | {"backbone/9999.npy": bytes(200 * 2**20)}
    bomb = pack(members, compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 2**20
    refuse(bomb, "'backbone/0000.npy' is compressed")


def test_members_that_share_their_bytes(refuse):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(MANIFEST, "{}")
        archive.writestr("a", bytes(10_000))
        for number in range(100):
            other = copy.copy(archive.getinfo("a"))
            other.filename = other.orig_filename = f"a{number}"
            archive.filelist.append(other)
    refuse(content.getvalue(), "its members claim more bytes than the file has")


def test_a_member_larger_than_the_file(refuse):
    place = CONTENT.index(ENTRY) + 20
    sizes = struct.pack("<2L", 2**31, 2**31)
    refuse(CONTENT[:place] + sizes + CONTENT[place + 8 :], "lies outside the file")


@pytest.mark.parametrize(
    "name", ["/etc/cron.d/x", "../../x", "C:\\x", "backbone/../x", "head/0002.npy", "x\0y", "x/"]
)
def test_a_member_more(refuse, name):
    with warnings.catch_warnings():
        refuse(pack(unpack() | {name: b""}), "members are not those|a link or a folder")


def test_a_member_of_another_name(refuse):
    members = [(name.replace("head/", "../"), data) for name, data in unpack().items()]
    refuse(pack(members), r"not those of its manifest: '\.\./0000.npy'")


def test_a_symbolic_link(refuse):
    refuse(pack(unpack() | {FIRST: b"/etc/passwd"}, kind=stat.S_IFLNK), "a link or a folder")


@pytest.mark.parametrize("name", [MANIFEST, FIRST])
def test_the_same_member_twice(refuse, name):
    members = [*unpack().items(), (name, unpack()[name])]
    refuse(pack(members), "members of the same name")


@pytest.mark.parametrize("flag", [0x1, 0x8, 0x40, 0x800])
def test_flags_of_a_member(refuse, flag):
    place = CONTENT.index(ENTRY) + 8
    changed = CONTENT[:place] + struct.pack("<H", flag) + CONTENT[place + 2 :]
    refuse(changed, "is encrypted, or its size is not known")


def test_a_file_around_the_file(refuse):
    refuse(b"#!/bin/sh\n" + CONTENT, "table of contents is too long or in the wrong place")
    refuse(CONTENT + b"\n", "not a zip archive without a comment, or its end is missing")
    for comment in (b"", b"PK\5\6"):
        with_comment = CONTENT[:-2] + struct.pack("<H", 4) + comment
        refuse(with_comment, "not a zip archive without a comment")


def test_a_long_table_of_contents(refuse):
    refuse(pack({f"{number:0200d}": b"" for number in range(5000)}), "table of contents is too lo")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({3: 11, 4: 11}, "it lists 13 members, and states that it has 11"),
        ({3: 65_535, 4: 65_535}, "table of contents is too short for 65,535 members"),
        ({3: 1}, "it is one of several parts of an archive"),
        ({1: 1}, "it is one of several parts of an archive"),
    ],
)
def test_an_end_that_states_another_number_of_members(refuse, fields, message):
    end = list(struct.unpack("<4s4H2LH", CONTENT[-END:]))
    for place, value in fields.items():
        end[place] = value
    refuse(CONTENT[:-END] + struct.pack("<4s4H2LH", *end), message)


def test_a_second_end_of_the_format_for_huge_files(refuse):
    body, end = CONTENT[:-END], CONTENT[-END:]
    fields = list(struct.unpack("<4s4H2LH", end))
    size, start = fields[5], fields[6]
    second = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, size, start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(body), 1)
    fields[5] += len(second) + len(locator)
    refuse(body + second + locator + struct.pack("<4s4H2LH", *fields), "the format for huge files")


def test_files_of_other_kinds(refuse, tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    for suffix in ("keras", "h5", "weights.h5"):
        path = tmp_path / f"model.{suffix}"
        save_model = model.save_weights if suffix == "weights.h5" else model.save
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            save_model(path)
        content = path.read_bytes()
        path.unlink()
        refuse(content, "holds no manifest.json, but 'metadata.json'|not a zip archive")
    for content in (b"", b"PK", pickle.dumps({"a": 1}), b"a text\n" * 100, bytes(1000)):
        refuse(content, r"not a zip archive|it has \d+ bytes, not 22 to")


def test_a_folder_and_nothing(tmp_path):
    with pytest.raises(IsADirectoryError, match="path must name a file; received the folder"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match="a file that save wrote; there is none at"):
        load(tmp_path / "missing.tlc")


def test_a_file_beyond_the_limit(tmp_path, monkeypatch):
    path = tmp_path / "long.tlc"
    with path.open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(ValueError, match="it has 2,147,483,648 bytes, not 22 to 2,147,483,647"):
        load(path)


# Arrays


class Payload:
    def __reduce__(self):
        return (Path.touch, (Path("hostile_code_was_run"),))


def as_pickle():
    return pickle.dumps(Payload())


def as_object_array():
    content = io.BytesIO()
    np.save(content, np.array([Payload()] * 216, dtype=object), allow_pickle=True)
    return content.getvalue()


def as_other_array():
    content = io.BytesIO()
    np.save(content, np.zeros((3, 3, 8, 3), dtype=np.float32))
    return content.getvalue()


def as_fortran_array():
    return unpack()[FIRST].replace(b"'fortran_order': False", b"'fortran_order': True ")


@pytest.mark.parametrize("make", [as_pickle, as_object_array, as_other_array, as_fortran_array])
def test_a_member_that_is_another_thing(refuse, make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = make()
    refuse(with_member(data), "have other sizes than|does not begin as the array")
    data = data.ljust(len(unpack()[FIRST]), b"\0")[: len(unpack()[FIRST])]
    refuse(with_member(data), "does not begin as the array")


def test_an_array_with_bytes_to_spare(refuse, unbuilt):
    refuse(with_member(unpack()[FIRST] + b"x"), "its members have other sizes than in its manif")


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        *(
            ("dtype", value)
            for value in ("|O", "<f16", ">f4", "<U9", "<M8[s]", "f4,(9,)O", None, 4)
        ),
        *(("sha256", value) for value in ("0" * 64, "0", "G" * 64, None)),
        *(("shape", value) for value in ([2**40, 2**40], [2**31] * 16, [1] * 99, [-3, 3, 3, -8])),
        *(("shape", value) for value in ([3, 3, 24, 1], [216.0], [True], "3388", [[3]], [0], None)),
    ],
)
def test_an_array_that_is_described_otherwise(refuse, unbuilt, entry, value):
    change = put("arrays", "backbone", 0, entry, value=value)
    refuse(with_manifest(change), "manifest is not valid|other sizes|SHA-256|does not begin")


@pytest.mark.parametrize("temperature", [0.01, 1.5, 100.0])
def test_weights_that_answer_differently(refuse, temperature):
    change = put("temperature", value=temperature)
    for value in (0.0, np.nan, np.inf):
        member = unpack()["head/0000.npy"]
        data = np.full((len(member) - 128) // 4, value, dtype="<f4").tobytes()
        changed = with_member(member[:128] + data, name="head/0000.npy", change=change)
        refuse(changed, "probe image gets probabilities that (differ by 0|are not finite)")


def test_a_probe_that_disagrees(refuse):
    change = put("probe", value=[0.5, 0.25, 0.25])
    refuse(with_manifest(change), "probe image gets probabilities that differ by")


def test_a_small_file_that_names_a_large_network(refuse, unbuilt):
    change = put("backbone", value="convnext_xlarge")
    refuse(with_manifest(change), r"weights for the backbone 'convnext_xlarge' of 348,147,968")


def test_a_head_for_other_features_than_those_of_the_backbone(refuse, monkeypatch):
    """Of one feature, a million units are a small file; of all features, a large head."""
    monkeypatch.setattr(saved_classifiers, "build_head_again", lambda *_, **__: pytest.fail("?"))
    shapes = {"standardization": [(1,), (1,)], "head": [(1, 9), (9,), (9, 3), (3,)]}
    members = {name: data for name, data in unpack().items() if name.startswith("backbone")}
    manifest = json.loads(unpack()[MANIFEST])
    manifest |= {"n_features": 1, "head": {"Head": {"hidden_units": [9]}}}
    for part, of_part in shapes.items():
        manifest["arrays"][part] = []
        for number, shape in enumerate(of_part):
            member = Member("<f4", shape, "")
            data = member.header + bytes(member.n_bytes - len(member.header))
            entry = {"dtype": "<f4", "shape": shape, "sha256": hashlib.sha256(data).hexdigest()}
            manifest["arrays"][part].append(entry)
            members[f"{part}/{number:04d}.npy"] = data
    members[MANIFEST] = json.dumps(manifest).encode()
    refuse(pack(members), "the backbone 'tiny' gives 12 features, and it has 1")


def test_a_network_of_other_shapes(refuse, tiny, monkeypatch):
    def build_other(x):
        return keras.layers.Conv2D(12, 3, padding="same", name="three")(tiny.builder(x))

    row = replace(tiny, name="other", builder=build_other)
    monkeypatch.setitem(backbones._registry, "other", row)
    change = put("backbone", value="other")
    refuse(with_manifest(change), "its backbone has 8 arrays of other shapes than the 10")


def test_a_probe_is_the_same_for_a_shape_and_for_no_mirror_image():
    first = blueprints.make_probe((8, 9, 3))
    assert first.shape == (1, 8, 9, 3)
    np.testing.assert_array_equal(first, blueprints.make_probe((8, 9, 3)))
    for other in (first[:, ::-1], first[:, :, ::-1], first[..., ::-1]):
        assert np.abs(first.astype(int) - other).mean() > 20
