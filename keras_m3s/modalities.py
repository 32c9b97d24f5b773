"""The modalities of a batch: their names, their order, and the names of what else it holds.

A batch is a dict of arrays. Feature keys are the modality names themselves: sequences
`(batch, steps, dim)` or vectors `(batch, dim)`, float. The sentiment data sets have `audio`,
`vision` and `text`, other data has what it names. `text_bert` `(batch, 3, steps)` int holds token
ids, mask and segments where the model reads tokens. `*_length` `(batch,)` int counts true steps,
`index` `(batch,)` int is the row in the data set, `draws` `(batch, modalities, 2)` float are the
two uniforms per modality that decide a hole (see `keras_m3s.missing`). For models that learn from
what is missing, `complement` holds by modality what the holes removed, and `complete` the same
modalities before the holes, NaN where nothing was measured.
"""

from collections.abc import Mapping, Sequence

MODALITIES: tuple[str, ...] = ("audio", "vision", "text")
"""Of the sentiment data: the order of the paper's section 3.2 and of MMIN's `missing_index`."""

TEXT_BERT = "text_bert"
INDEX = "index"
DRAWS = "draws"
COMPLEMENT = "complement"
COMPLETE = "complete"
MISSING_INDEX = "missing_index"
TEXT_MISSING_RATE = "text_missing_rate"

NO_MODALITIES = (DRAWS, COMPLEMENT, COMPLETE, INDEX, MISSING_INDEX, TEXT_MISSING_RATE)
SUFFIXES = ("_length", "_present")
"""Of entries that belong to a modality and are none themselves."""


def length_key(modality: str) -> str:
    """Name of the batch entry that counts a modality's true steps."""
    return f"{modality}_length"


def presence_key(modality: str) -> str:
    """Name of the entry that tells where a modality was measured and kept."""
    return f"{modality}_present"


def modalities_in(shapes: Mapping[str, Sequence[int | None]]) -> tuple[str, ...]:
    """Names of the modalities among the entries of a dict: sequences and vectors.

    The names in `MODALITIES` come first, in that order, then the others alphabetically, since
    compiled steps do not keep the order of a dict.

    Args:
        shapes: Entry -> shape with the batch axis.

    Raises:
        ValueError: There is none.
    """
    names = [
        name
        for name, shape in shapes.items()
        if len(shape) >= 2 and name not in NO_MODALITIES and not name.endswith(SUFFIXES)
    ]
    if TEXT_BERT in names:  # tokens are the modality text in another form
        names[names.index(TEXT_BERT)] = "text"
    if not names:
        raise ValueError(
            "`inputs` must hold at least one modality of shape (batch, ..., dim). "
            f"Received: {dict(shapes)}."
        )
    order = {name: number for number, name in enumerate(MODALITIES)}
    return tuple(sorted(set(names), key=lambda name: (order.get(name, len(order)), name)))
