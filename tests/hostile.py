"""A saved classifier taken apart, changed, and put together again."""

import hashlib
import io
import json
import re
import stat
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from tlclassify.persistence.saving import load

CONTENT = (Path(__file__).parent / "data" / "saved_format_1.tlc").read_bytes()
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
MANIFEST, FIRST = "manifest.json", "backbone/0000.npy"


def check_refused(folder, content, match, limit_bytes=16 * 2**20):
    """See content refused, with nothing run, written or held in memory."""
    (folder / "hostile.tlc").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=match) as caught:
            load(folder / "hostile.tlc")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit_bytes
    assert len(str(caught.value)) < 1500
    assert not re.search(r"\.\.(\s|$)", str(caught.value))
    assert [path.name for path in folder.iterdir()] == ["hostile.tlc"]


def unpack():
    with zipfile.ZipFile(io.BytesIO(CONTENT)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(members, *, compression=zipfile.ZIP_STORED, kind=stat.S_IFREG):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of members of the same name
        for name, data in members.items() if isinstance(members, dict) else members:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (kind if name == FIRST else stat.S_IFREG) << 16
            archive.writestr(entry, data, compress_type=compression)
    return content.getvalue()


def with_manifest(change):
    """The file with a changed manifest, and with all checksums of the archive right."""
    members = unpack()
    manifest = json.loads(members[MANIFEST])
    change(manifest)
    return pack(members | {MANIFEST: json.dumps(manifest).encode()})


def put(*path, value):
    """A change of a manifest: another value at a path."""

    def change(manifest):
        for key in path[:-1]:
            manifest = manifest[key]
        manifest[path[-1]] = value

    return change


def with_member(data, *, name=FIRST, change=lambda manifest: None):
    """The file with another member, whose right SHA-256 stands in the manifest."""
    part, number = name.removesuffix(".npy").split("/")

    def change_all(manifest):
        change(manifest)
        manifest["arrays"][part][int(number)]["sha256"] = hashlib.sha256(data).hexdigest()

    changed = with_manifest(change_all)
    with zipfile.ZipFile(io.BytesIO(changed)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return pack(members | {name: data})


def answers(content, folder):
    (folder / "perhaps.tlc").write_bytes(content)
    model = load(folder / "perhaps.tlc").model_
    return keras.ops.convert_to_numpy(model(IMAGES, training=False))
