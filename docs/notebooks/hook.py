"""The notebooks: pages of this folder whose code runs when the docs are built.

MkDocs calls the functions below for each page, before and after `markdown-exec` has run its code. A
notebook runs in a folder of its own, which holds its data under the name that the code reads. A
picture that the code wrote there becomes part of the page.

`KERAS_M3S_NOTEBOOK_DATA` names a folder that has `har.npz`, `icu.npz` or `unaligned_50.pkl`, or has
them in folders below. What is not there is made up, and the page says so.
"""

import base64
import contextlib
import os
import pathlib
import re
import tempfile
from typing import Any

import made_up

DATA = "KERAS_M3S_NOTEBOOK_DATA"
MADE_UP = {"har.npz": made_up.har, "icu.npz": made_up.icu, "unaligned_50.pkl": made_up.mosi}
NOTEBOOK = re.compile(r"^<!-- notebook: (\S+) -->$", re.MULTILINE)
PICTURE = re.compile(r"^!\[([^\]]*)\]\(([\w/-]+\.(?:png|svg))\)$", re.MULTILINE)
EMBEDDED = re.compile(r'src="notebook:([^"]+)"')
NOTES = {
    True: '!!! note "Real data"\n    The numbers on this page were measured on `{name}`.',
    False: '!!! warning "Made-up data"\n'
    "    This page was built without the real `{name}`. Its data is made up, in the same shapes\n"
    "    ([`made_up.py`](made_up.py)): its numbers show what the code prints, and nothing else.",
}

_open = contextlib.ExitStack()


def on_startup(**_: Any) -> None:
    """Chooses the backend of all pages, which are built in one process.

    PyTorch compiles nothing, which for models as small as these is most of the time; and a second
    thread costs them more than it gives.
    """
    os.environ["KERAS_BACKEND"] = "torch"
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Enters the folder of a notebook; says which data it is about to read."""
    found = NOTEBOOK.search(markdown)
    if found is None:
        return markdown
    folder = _open.enter_context(tempfile.TemporaryDirectory())
    _open.enter_context(contextlib.chdir(folder))
    note = NOTES[bring(found[1])].format(name=found[1])
    # Links to pictures would be checked, before there are any.
    markdown = PICTURE.sub(r'<p><img alt="\1" src="notebook:\2"></p>', markdown)
    return NOTEBOOK.sub(lambda _: note, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Puts a notebook's pictures into its page, and leaves its folder."""
    html = EMBEDDED.sub(lambda name: f'src="{embedded(pathlib.Path(name[1]))}"', html)
    _open.close()
    return html


def bring(name: str) -> bool:
    """Puts a notebook's data into the current folder.

    Args:
        name: One of `MADE_UP`.

    Returns:
        Whether it is real.
    """
    given = os.environ.get(DATA)
    real = next(pathlib.Path(given).expanduser().rglob(name), None) if given else None
    if real is None:
        MADE_UP[name](name)
        return False
    pathlib.Path(name).symlink_to(real.resolve())
    return True


def embedded(path: pathlib.Path) -> str:
    """A picture as the source of an `img`."""
    kind = {".png": "png", ".svg": "svg+xml"}[path.suffix]
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
