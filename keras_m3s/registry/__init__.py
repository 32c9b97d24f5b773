"""What is known of a model, method, data set, pattern or protocol by name: Keras-free cards.

    models.CARDS["misa"].title                        "MISA"
    registry.load(models.CARDS["misa"].model)         the class `keras_m3s.models.MISA`

A card names the code that it is of by its import path, `module:name`, so that the command and the
report need neither Keras nor a framework. To add one, put a card into the file's table and write
what it names; no other file compares a name with a literal.
"""

import importlib
from typing import Any


def load(path: str) -> Any:
    """The object that a card names.

    Args:
        path: `module:name`.
    """
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def require(kind: str, name: str, cards: Any) -> None:
    """Raises `ValueError` unless there is a card of that name.

    Args:
        kind: What the name is of, for the message: `model`, `method`, `pattern`.
        name: To look for.
        cards: A table of cards.
    """
    if name not in cards:
        raise ValueError(f"`{kind}` must be one of {tuple(cards)}. Received: {kind}={name!r}.")
