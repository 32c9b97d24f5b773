"""The three modalities: their order, the names of their features, and what a batch holds.

A batch is a dict of arrays. Feature keys are the modality names themselves (`audio`, `vision`,
`text`: `(batch, steps, dim)` float); `text_bert` `(batch, 3, steps)` int holds token ids, mask
and segments where the model reads tokens. `*_length` `(batch,)` int counts true steps, `index`
`(batch,)` int is the row in the data set, `draws` `(batch, modalities, 2)` float are the two
uniforms per modality that decide a hole (see `keras_m3s.missing`).
"""

MODALITIES: tuple[str, ...] = ("audio", "vision", "text")
"""Audio, video, language: the order of the paper's section 3.2 and of MMIN's `missing_index`."""

TEXT_BERT = "text_bert"
INDEX = "index"
DRAWS = "draws"
COMPLEMENT = "complement"
MISSING_INDEX = "missing_index"


def length_key(modality: str) -> str:
    """Name of the batch entry that counts a modality's true steps."""
    return f"{modality}_length"


def presence_key(modality: str) -> str:
    """Name of the entry that tells where a modality was measured and kept."""
    return f"{modality}_present"
