"""Depths, heads and widths of LNLN's parts, given as one number for all or a dict by part."""

from collections.abc import Mapping

from keras_m3s.models.arguments import require_int

PARTS = ("encoder", "proxy", "completeness", "reconstructor", "language", "hyper", "fusion")
"""Keys of such a dict."""

ByPart = int | Mapping[str, int]


def by_part(name: str, value: ByPart, default: int) -> dict[str, int]:
    """The value for each of `PARTS`; a dict need not have all of them.

    Args:
        name: The argument's, for errors.
        value: What was given.
        default: For parts that are not in the dict.
    """
    if isinstance(value, Mapping):
        return {**dict.fromkeys(PARTS, default), **by_key(name, value, PARTS)}
    require_int(name, value)
    return dict.fromkeys(PARTS, value)


def by_key(name: str, value: Mapping[str, int], keys: tuple[str, ...]) -> dict[str, int]:
    """A copy of `value`, checked: keys among `keys`, ints >= 1."""
    if unknown := [key for key in value if key not in keys]:
        raise ValueError(f"`{name}` must have keys among {keys}. Received: {name} of {unknown}.")
    for number in value.values():
        require_int(name, number)
    return dict(value)


def parts(
    depth: ByPart, heads: ByPart, head_size: int, feedforward_size: ByPart | None, hidden_size: int
) -> dict[str, dict[str, int]]:
    """Part -> arguments of its transformer; of `"hyper"` only `depth` and `heads`.

    Args:
        depth: See `keras_m3s.models.lnln.LNLN`, as all of these.
        heads: Likewise.
        head_size: Likewise.
        feedforward_size: Likewise.
        hidden_size: Likewise.

    Raises:
        ValueError: A part is unknown, or a number out of range.
    """
    depths = by_part("depth", depth, 2)
    most = depths["language"] + 1
    if not isinstance(depth, Mapping) or "hyper" not in depth:
        depths["hyper"] = most
    if depths["hyper"] > most:
        raise ValueError(
            "`depth` of 'hyper' must be at most one more than that of 'language': each of its "
            f"layers reads one state of that. Received: depth={depth}."
        )
    all_heads = by_part("heads", heads, 8)
    if all_heads["hyper"] > hidden_size:
        raise ValueError(
            f"`heads` of 'hyper' must be at most `hidden_size`. Received: heads={heads}, "
            f"hidden_size={hidden_size}."
        )
    widths = by_part("feedforward_size", {} if feedforward_size is None else feedforward_size,
                     hidden_size)  # fmt: skip
    sizes = {
        part: {
            "depth": depths[part],
            "heads": all_heads[part],
            "head_size": head_size,
            "hidden_size": widths[part],
        }
        for part in PARTS
    }
    sizes["hyper"] = {name: sizes["hyper"][name] for name in ("depth", "heads")}
    return sizes
