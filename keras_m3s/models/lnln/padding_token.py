"""A BERT whose vector of [PAD] has no gradient, as PyTorch's with its `padding_idx`."""

from typing import Any

from keras import ops

PADDING_TOKEN = 0


def without_gradient(bert: Any) -> None:
    """Lets no gradient into the vector of [PAD].

    It matters where the states of padding are read, as LNLN does: elsewhere there is none.

    Args:
        bert: A keras-hub backbone, whose `token_embedding` is changed; anything else stays.
    """
    embedding = getattr(bert, "token_embedding", None)
    if embedding is None or getattr(embedding, "holds_padding_token", False):
        return
    look_up = embedding.call

    def call(token_ids: Any, *args: Any, **kwargs: Any) -> Any:
        vectors = look_up(token_ids, *args, **kwargs)
        padding = ops.equal(token_ids, PADDING_TOKEN)[..., None]
        return ops.where(padding, ops.stop_gradient(vectors), vectors)

    embedding.call = call
    embedding.holds_padding_token = True
