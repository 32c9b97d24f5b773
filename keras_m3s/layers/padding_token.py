"""The embedding of [PAD] without gradient, as PyTorch's BERT has it (`padding_idx`)."""

from typing import Any

from keras import ops

PADDING_TOKEN = 0


def without_gradient(bert: Any) -> None:
    """Stops the gradient of the embedding of [PAD].

    It is only non-zero in models that read the states of padding, as LNLN and TFR-Net do.

    Args:
        bert: A keras-hub backbone, whose `token_embedding` is changed; any other model and `None`
            are left as they are.
    """
    embedding = getattr(bert, "token_embedding", None)
    if embedding is None or getattr(embedding, "holds_padding_token", False):
        return
    lookup = embedding.call

    def call(token_ids: Any, *args: Any, **kwargs: Any) -> Any:
        vectors = lookup(token_ids, *args, **kwargs)
        padding = ops.equal(token_ids, PADDING_TOKEN)[..., None]
        return ops.where(padding, ops.stop_gradient(vectors), vectors)

    embedding.call = call
    embedding.holds_padding_token = True
