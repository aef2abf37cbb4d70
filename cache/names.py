"""File names that are safe on any system, and different for different things."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
"""Characters that Windows, the strictest of all, has no place for in a name."""
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
LONGEST = 180
"""Bytes of a name, so that an ending and a number find room in the usual 255."""
BETWEEN = "__"
"""Stands for the `/` of a path that has become one name."""


def safe(name: str) -> str:
    """One part of a path that can lead nowhere else: no separators, no `..`, no reserved names."""
    name = FORBIDDEN.sub("_", unicodedata.normalize("NFC", name)).rstrip(". ").lstrip(" ")
    if name.startswith(".") or RESERVED.fullmatch(name) or not name:
        name = f"_{name.lstrip('.')}"
    encoded = name.encode(errors="replace")
    if len(encoded) > LONGEST:
        digest = hashlib.sha256(encoded).hexdigest()[:12]
        name = f"{encoded[: LONGEST - 13].decode(errors='ignore')}~{digest}"
    return name


def different(names: Sequence[str]) -> list[str]:
    """The names, a later one that only differs in case from an earlier one with `~2`, `~3`, ..."""
    taken = {_folded(name) for name in names}
    seen: Counter[str] = Counter()
    out = []
    for name in names:
        folded = _folded(name)
        seen[folded] += 1
        if seen[folded] == 1:
            out.append(name)
            continue
        number = seen[folded]
        while _folded(f"{name}~{number}") in taken:
            number += 1
        out.append(f"{name}~{number}")
        taken.add(_folded(out[-1]))
    return out


def file_names(keys: Sequence[str], faces: Sequence[int], folders: Sequence[str]) -> list[str]:
    """A name without ending for each face of a photo, unique within its folder.

    The shortest of three ways that tells all photos apart is taken for all of them: the file's
    own name; with the folders it was in; with its ending too. What even that can't tell apart
    (names that differ in case alone, or in forbidden characters) gets a number.

    Args:
        keys: `/` between parts, with the photo's ending.
        faces: 0 for the photo's own name, more for `name_face1`.
        folders: where each goes.
    """
    for way in (_own_name, _with_folders, _with_ending):
        names = [
            f"{folder}/{safe(way(key))}" + (f"_face{face}" if face else "")
            for key, face, folder in zip(keys, faces, folders, strict=True)
        ]
        if len({_folded(name) for name in names}) == len(names):
            break
    return [name.rpartition("/")[2] for name in different(names)]


def _own_name(key: str) -> str:
    return _stem(key.rpartition("/")[2])


def _with_folders(key: str) -> str:
    return _stem(key).strip("/").replace("/", BETWEEN)


def _with_ending(key: str) -> str:
    stem = _stem(key)
    return f"{stem}_{key[len(stem) + 1 :]}".strip("/").replace("/", BETWEEN)


def _stem(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return stem if dot and stem and not stem.endswith("/") and "/" not in ending else name


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
