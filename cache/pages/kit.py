"""The page kit: folders of HTML, CSS, JS and pictures that open by double click, without a network.

A page is read from the disk (`file://`), where a browser refuses `fetch` and modules. Data therefore
come as scripts that hand over one value each, `Page.put(name, number, value)`: those of `data=` are
loaded before the page runs, those of `write_chunk` when the page asks for them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from configs.errors import UserError

SOURCES = Path(__file__).parent
MARK = "page.json"
"""The file that tells a folder of ours, which may be replaced, from any other."""

STYLES = ("kit.css",)
SCRIPTS = ("kit.js", "list.js", "picture.js")


def write_page(
    folder: Path,
    *,
    title: str,
    template: str,
    name: str = "index.html",
    styles: Sequence[str] = (),
    scripts: Sequence[str] = (),
    context: Mapping[str, Any] | None = None,
    data: Mapping[str, Sequence[Any]] | None = None,
) -> Path:
    """Write one page, with the styles and scripts that it needs, into a folder.

    Args:
        folder: where to; several pages may share it.
        title: of the window and the page, any text.
        template: a file of this package that extends `base.html`. Every value is escaped.
        name: the page's file.
        styles, scripts: files of this package that the page loads after the kit's own.
        context: what the template shows.
        data: name -> chunks, each any JSON value; the page finds them in `Page.data[name]`.

    Returns:
        The page's path.
    """
    assets = folder / "assets"
    assets.mkdir(parents=True, exist_ok=True)
    for file in (*STYLES, *SCRIPTS, *styles, *scripts):
        shutil.copyfile(SOURCES / file, assets / file)
    loaded = [
        write_chunk(folder, key, number, value).relative_to(folder).as_posix()
        for key, chunks in (data or {}).items()
        for number, value in enumerate(chunks)
    ]
    html = (
        _environment()
        .get_template(template)
        .render(
            title=title,
            styles=[f"assets/{file}" for file in (*STYLES, *styles)],
            scripts=[f"assets/{file}" for file in SCRIPTS] + loaded + [f"assets/{file}" for file in scripts],
            **(context or {}),
        )
    )
    page = folder / name
    # A title may hold half a surrogate pair, from a file name that is not UTF-8.
    page.write_text(html, encoding="utf-8", errors="xmlcharrefreplace")
    return page


def write_chunk(folder: Path, name: str, number: int, value: Any) -> Path:
    """Write one value as a script that the page loads by itself (`Page.chunk(name, number)`)."""
    path = folder / "data" / f"{name}-{number:05d}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"Page.put({script_value(name)},{number},{script_value(value)});\n", encoding="ascii")
    return path


def script_value(value: Any) -> str:
    """A value as JavaScript in plain ASCII that stays data wherever it stands, `</script>` included.

    Raises:
        ValueError: NaN or infinity, which no reader of JSON knows.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@contextmanager
def fresh_folder(out: Path, *, kind: str) -> Iterator[Path]:
    """A folder to write pages into, which takes `out`'s place when the block ends well.

    Until then the old pages stay as they are; after an error nothing new is left.

    Args:
        out: absent, empty, or holding pages of the same kind, which are replaced.
        kind: what the pages are ("gallery").

    Raises:
        UserError: `out` is something else, which nobody asked us to delete.
    """
    _refuse_foreign(out, kind)
    out = out.absolute()
    building, old = (out.with_name(f".{out.name}.{part}") for part in ("building", "old"))
    out.parent.mkdir(parents=True, exist_ok=True)
    for left in (building, old):
        _refuse_foreign(left, kind)
        shutil.rmtree(left, ignore_errors=True)
    building.mkdir()
    try:
        (building / MARK).write_text(json.dumps({"made_by": "figureground", "page": kind}), "utf-8")
        yield building
        if out.exists():
            out.rename(old)
        building.rename(out)
    finally:
        shutil.rmtree(building, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def size_of(folder: Path) -> int:
    """The bytes of all files below a folder."""
    return sum(Path(root, file).stat().st_size for root, _, files in os.walk(folder) for file in files)


def size_text(count: float) -> str:
    """Bytes for people: 812 B, 3.4 MB, 290 MB (powers of 1000, as disks are sold)."""
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.1f} {unit}" if count < 9.95 and unit != "B" else f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def share_text(part: float, whole: float) -> str:
    """A share for people: 97.3 %; never 100 % or 0 % for what is only nearly so."""
    if not whole:
        return "-"
    share = 100 * part / whole
    if 0 < part < whole:
        share = min(max(share, 0.1), 99.9)
    return f"{share:.1f} %" if 0 < part < whole else f"{share:.0f} %"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(SOURCES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["size"] = size_text
    environment.globals["share"] = share_text
    return environment


def _refuse_foreign(out: Path, kind: str) -> None:
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir() or out.is_symlink():
        raise UserError(f"{out} is not a folder: name one that is absent or empty")
    if not any(out.iterdir()):
        return
    try:
        found = json.loads((out / MARK).read_text("utf-8"))["page"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{out} holds other files than a {kind}, and would be replaced: name an absent or empty folder"
        ) from None
    if found != kind:
        raise UserError(f"{out} holds a page of another kind ({found}): name another folder")
