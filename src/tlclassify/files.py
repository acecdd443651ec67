"""Files that appear under their names only when they are whole."""

import uuid
from pathlib import Path


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file by way of a temporary one beside it; its folder is made if need be.

    Raises
    ------
    OSError
        If it cannot be written; what there was under the name is left as it is.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(f"path must name a file; received the folder {str(path)!r}.")
    # Not by tempfile, whose files nobody else may read.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
