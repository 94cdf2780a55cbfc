"""Whether a file is damaged: where a checksum or a format failed, and nothing else."""

from __future__ import annotations

import json
import lzma
import zipfile
import zlib

PROOFS = (  # of checksums and formats, in what HDF5, codecs and decompressors say
    "checksum", "truncated", "inflate", "decompress", "corrupt ", "bad object header", "signature",
    "unexpected end", "bad heap", "bad symbol table", "incorrect metadata", "end of file",
    "address overflow", "smaller than requested", "crc",
    "filter returned failure",
)  # fmt: skip
READING = (OSError, RuntimeError, ValueError, lzma.LZMAError, zipfile.BadZipFile)


def causes(error: BaseException) -> list[BaseException]:
    """An error and those that it was raised from."""
    found = [error]
    while found[-1].__cause__ is not None:
        found.append(found[-1].__cause__)
    return found


def proves_damage(error: BaseException) -> bool:
    """Whether a checksum or a format failed, and not something else while the file was open."""
    for each in causes(error):
        if isinstance(each, (zlib.error, EOFError, json.JSONDecodeError)):
            return True
        if isinstance(each, OSError) and each.errno is not None:
            continue  # the system's: permissions, a full disk, a name that is too long
        said = str(each).lower()
        if isinstance(each, READING) and any(proof in said for proof in PROOFS):
            return True
    return False
