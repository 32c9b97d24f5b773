"""The patterns of missingness by name; the masks are made in `keras_m3s.missing.patterns`."""

import dataclasses
from typing import NamedTuple

Rate = tuple[float, float]
ModalityRates = tuple[tuple[str, Rate], ...]


@dataclasses.dataclass(frozen=True)
class PatternCard:
    """A pattern of missingness.

    Attributes:
        title: As reports print it.
        masks: Import path of its function, a `keras_m3s.missing.patterns.Request` to masks.
        takes_conditions: Whether it can draw from given sets of missing modalities.
    """

    title: str
    masks: str
    takes_conditions: bool = False


PAPER = "span"
"""The pattern of the M3S paper, and the default."""


class Condition(NamedTuple):
    """Missingness to train or test under.

    Attributes:
        missing_rate: Range of rates `(low, high)`.
        pattern: Name of a pattern.
        modality_rates: Modalities with a range of their own, as pairs of name and range.
    """

    missing_rate: Rate
    pattern: str = PAPER
    modality_rates: ModalityRates = ()


CARDS: dict[str, PatternCard] = {
    "span": PatternCard(
        title="one hole a sequence",
        masks="keras_m3s.missing.patterns:span_masks",
    ),
    "frames": PatternCard(
        title="independent frames",
        masks="keras_m3s.missing.patterns:frames_masks",
    ),
    "modality": PatternCard(
        title="whole modalities",
        masks="keras_m3s.missing.patterns:modality_masks",
        takes_conditions=True,
    ),
    "six-conditions": PatternCard(
        title="MMIN's six conditions",
        masks="keras_m3s.missing.patterns:conditions_masks",
    ),
    "mar": PatternCard(
        title="missing at random",
        masks="keras_m3s.missing.value_patterns:mar_masks",
    ),
    "mnar": PatternCard(
        title="missing not at random",
        masks="keras_m3s.missing.value_patterns:mnar_masks",
    ),
    "recorded": PatternCard(
        title="holes as recorded",
        masks="keras_m3s.missing.patterns:recorded_masks",
    ),
    "none": PatternCard(
        title="nothing missing",
        masks="keras_m3s.missing.patterns:no_masks",
    ),
}
