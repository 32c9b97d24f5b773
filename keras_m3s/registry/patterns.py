"""The patterns of missingness by name; the masks are made in `keras_m3s.missing.patterns`."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class PatternCard:
    """A pattern of missingness.

    Attributes:
        title: As reports print it.
        masks: Import path of its function, a `keras_m3s.missing.patterns.Request` to masks.
        takes_conditions: Whether it can draw from given sets of missing modalities.
        trained_range: Range of missing rates that its protocol trains on; `None` where the study of
            protocols leaves it out.
        tested_rates: Missing rates that its protocol tests at.
    """

    title: str
    masks: str
    takes_conditions: bool = False
    trained_range: tuple[float, float] | None = None
    tested_rates: tuple[float, ...] = ()


PAPER = "span"
"""The pattern of the M3S paper, and the default."""

CARDS: dict[str, PatternCard] = {
    "span": PatternCard(
        title="one hole a sequence",
        masks="keras_m3s.missing.patterns:span_masks",
    ),
    "frames": PatternCard(
        title="independent frames",
        masks="keras_m3s.missing.patterns:frames_masks",
        trained_range=(0.0, 1.0),
        tested_rates=tuple(i / 10 for i in range(10)),
    ),
    "modality": PatternCard(
        title="whole modalities",
        masks="keras_m3s.missing.patterns:modality_masks",
        takes_conditions=True,
        trained_range=(0.0, 0.7),
        tested_rates=tuple(i / 10 for i in range(8)),
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
