"""The container of a saved classifier: a plain zip of a manifest and raw arrays.

Nothing in it is compressed, so nothing unpacks to more than the file's own size, and no header of
an array is ever interpreted: it must be, byte for byte, the one that the manifest implies.
"""

import hashlib
import json
import math
import stat
import struct
import zipfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

MANIFEST = "manifest.json"
MAX_FILE_BYTES = 2**31 - 1
MAX_MANIFEST_BYTES = 4 * 2**20
DTYPES = ("<f2", "<f4", "<f8", "<i4", "<i8")
DAMAGE = (
    *(ValueError, OverflowError, EOFError, RuntimeError, struct.error),
    *(zipfile.BadZipFile, zipfile.LargeZipFile),
)
"""What Python raises where a file is not what it should be; RecursionError is among them."""

_ZIP64_LOCATOR_BYTES = 20
_SHORTEST_ENTRY_BYTES = 46
_MAX_DIRECTORY_BYTES = 2**20
_MAX_DIGITS = 20
_END = struct.Struct("<4s4H2LH")  # how a zip archive ends, where it has no comment
_EPOCH = (1980, 1, 1, 0, 0, 0)
_PIECE_BYTES = 2**20
_SHOWN = 5


@dataclass(frozen=True)
class Member:
    """What a manifest says of one array.

    Parameters
    ----------
    dtype : str
        One of `DTYPES`.
    shape : tuple of int
    sha256 : str
        Of the member's bytes, in hexadecimal.
    """

    dtype: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def n_values(self) -> int:
        """Number of values."""
        # In Python's integers, which do not overflow.
        return math.prod(self.shape)

    @property
    def header(self) -> bytes:
        """The bytes before the values, as `numpy.load` expects them."""
        text = f"{{'descr': '{self.dtype}', 'fortran_order': False, 'shape': {self.shape}, }}"
        text = text.ljust(len(text) + -(len(text) + 11) % 64) + "\n"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("ascii")

    @property
    def n_bytes(self) -> int:
        """Length of the whole member."""
        return len(self.header) + self.n_values * np.dtype(self.dtype).itemsize


def write_array(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> Member:
    """Write an array as an ``.npy`` member, and return what the manifest should say of it.

    Raises
    ------
    ValueError
        If its dtype is not one of `DTYPES`.
    """
    array = np.asarray(array)
    dtype = array.dtype.newbyteorder("<").str
    if dtype not in DTYPES:
        raise ValueError(f"weights must be of dtype {', '.join(DTYPES)}; {name} has {array.dtype}.")
    member = Member(dtype, array.shape, "")
    digest = hashlib.sha256(member.header)
    values = array.astype(dtype, copy=False).tobytes()
    digest.update(values)
    with archive.open(_entry(name, member.n_bytes), "w") as file:
        file.write(member.header)
        file.write(values)
    return Member(dtype, array.shape, digest.hexdigest())


def write_manifest(archive: zipfile.ZipFile, manifest: dict[str, Any]) -> None:
    """Write the manifest as the last member."""
    content = json.dumps(manifest, allow_nan=False, separators=(",", ":")).encode("ascii")
    with archive.open(_entry(MANIFEST, len(content)), "w") as file:
        file.write(content)


def _entry(name: str, n_bytes: int) -> zipfile.ZipInfo:
    # One date for all, so that the same classifier makes the same file.
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.file_size = n_bytes
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    return entry


def create_archive(file: BinaryIO) -> zipfile.ZipFile:
    """Begin an archive of at most 2 GiB, which `open_archive` reads."""
    return zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=False)


def open_archive(file: BinaryIO) -> zipfile.ZipFile:
    """Open an archive, once its size, its table of contents and its members are plausible.

    Raises
    ------
    Any of DAMAGE
        If they are not.
    """
    n_bytes, n_members = _check_end(file)
    archive = zipfile.ZipFile(file)
    members = archive.infolist()
    if len(members) != n_members:
        raise ValueError(f"it lists {len(members):,} members, and states that it has {n_members:,}")
    for member in members:
        _check_entry(member, n_bytes)
    names = [member.filename for member in members]
    if len(set(names)) < len(names):
        raise ValueError("it holds members of the same name")
    if MANIFEST not in names:
        raise ValueError(f"it holds no {MANIFEST}, but {_first(names)}")
    if sum(member.file_size for member in members) > n_bytes:
        raise ValueError("its members claim more bytes than the file has")
    return archive


def _check_end(file: BinaryIO) -> tuple[int, int]:
    """Return the sizes of a file and of its table of contents, if it ends as an archive of ours.

    Returns
    -------
    n_bytes, n_members : int
        The second as the archive states it.
    """
    n_bytes = file.seek(0, 2)
    if not _END.size <= n_bytes <= MAX_FILE_BYTES:
        raise ValueError(f"it has {n_bytes:,} bytes, not {_END.size} to {MAX_FILE_BYTES:,}")
    file.seek(n_bytes - _END.size)
    signature, *parts, n_here, n_members, size, start, n_comment = _END.unpack(file.read())
    if signature != b"PK\x05\x06" or n_comment:
        raise ValueError("it is not a zip archive without a comment, or its end is missing")
    if size > _MAX_DIRECTORY_BYTES or start + size + _END.size != n_bytes:
        raise ValueError("its table of contents is too long or in the wrong place")
    if any(parts) or n_here != n_members:
        raise ValueError("it is one of several parts of an archive")
    if n_members * _SHORTEST_ENTRY_BYTES > size:
        raise ValueError(f"its table of contents is too short for {n_members:,} members")
    # zipfile would believe a second end record, of the format for huge files, that lies before it.
    file.seek(max(0, start + size - _ZIP64_LOCATOR_BYTES))
    if file.read(4) == b"PK\x06\x07":
        raise ValueError("it is an archive of the format for huge files, which save never writes")
    return n_bytes, n_members


def _check_entry(member: zipfile.ZipInfo, n_bytes: int) -> None:
    """Refuse a member that is not a regular file, whole and as it is."""
    name, kind = member.filename[:100], stat.S_IFMT(member.external_attr >> 16)
    if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
        raise ValueError(f"its member {name!r} is compressed")
    if member.flag_bits:
        raise ValueError(f"its member {name!r} is encrypted, or its size is not known beforehand")
    if kind not in {0, stat.S_IFREG} or member.is_dir():
        raise ValueError(f"its member {name!r} is a link or a folder, not a regular file")
    if not 0 <= member.header_offset <= n_bytes - member.file_size:
        raise ValueError(f"its member {name!r} lies outside the file")


def read_manifest(archive: zipfile.ZipFile) -> Any:
    """Return the manifest as `json.loads` does, unless it is too long or not strict JSON.

    Raises
    ------
    Any of DAMAGE
    """
    n_bytes = archive.getinfo(MANIFEST).file_size
    if n_bytes > MAX_MANIFEST_BYTES:
        raise ValueError(f"its manifest has {n_bytes:,} bytes, not {MAX_MANIFEST_BYTES:,} or fewer")
    # Strict: names occur once, numbers are finite and not endless.
    return json.loads(
        archive.read(MANIFEST).decode("ascii"),
        object_pairs_hook=_unique,
        parse_int=_short_int,
        parse_float=_finite,
        parse_constant=_finite,
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("its manifest says something twice")
    return dict(pairs)


def _short_int(digits: str) -> int:
    # Python 3.10 would spend hours on a million digits.
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"its manifest has an integer of {len(digits):,} digits")
    return int(digits)


def _finite(text: str) -> float:
    number = float(text)
    if not np.isfinite(number):
        raise ValueError("its manifest has a number that is not finite")
    return number


def check_members(archive: zipfile.ZipFile, members: dict[str, Member]) -> None:
    """Hold the archive's table of contents against the manifest: the same members and sizes.

    Raises
    ------
    Any of DAMAGE
    """
    sizes = {member.filename: member.file_size for member in archive.infolist()}
    del sizes[MANIFEST]
    odd = [*sorted(sizes.keys() - members.keys()), *sorted(members.keys() - sizes.keys())]
    if odd:
        raise ValueError(f"its members are not those of its manifest: {_first(odd)}")
    wrong = [name for name, member in members.items() if member.n_bytes != sizes[name]]
    if wrong:
        raise ValueError(f"its members have other sizes than in its manifest: {_first(wrong)}")


def verify_members(archive: zipfile.ZipFile, members: dict[str, Member]) -> None:
    """Hold the bytes of members that `check_members` has passed against the manifest.

    Raises
    ------
    Any of DAMAGE
    """
    for name, member in members.items():
        _verify_array(archive, name, member)


def _verify_array(archive: zipfile.ZipFile, name: str, member: Member) -> None:
    # A piece at a time, so that no array is in memory yet.
    with archive.open(name) as file:
        header = file.read(len(member.header))
        if header != member.header:
            raise ValueError(f"its member {name!r} does not begin as the array of its manifest")
        digest = hashlib.sha256(header)
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    if digest.hexdigest() != member.sha256:
        raise ValueError(f"its member {name!r} does not have the SHA-256 of its manifest")


def read_array(archive: zipfile.ZipFile, name: str, member: Member) -> NDArray[Any]:
    """Return the values of a member that `verify_members` has passed."""
    with archive.open(name) as file:
        file.read(len(member.header))
        return np.frombuffer(file.read(), dtype=member.dtype).reshape(member.shape)


def _first(names: Collection[str] | Sequence[str]) -> str:
    """Return a few names for a message."""
    shown = ", ".join(repr(name[:100]) for name in list(names)[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else "")
