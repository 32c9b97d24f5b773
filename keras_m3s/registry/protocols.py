"""The protocols of robustness by name: what is trained on, what is tested on, and the summary.

P1 to P4 are how the field measures what a model withstands. MissBench (P4) also has two indices of
how evenly modalities contribute and learn; they are left out, since their definitions could not be
had. P4 here is MissMAC-Bench's principle, one model that is trained without knowing the rates of
the test, at MissBench's imbalanced rates.
"""

import dataclasses
import itertools
from collections.abc import Mapping

from keras_m3s.registry.patterns import Condition

MEAN = "keras_m3s.report.rate_summaries:mean_over_conditions"
AREA = "keras_m3s.report.rate_summaries:auilc"


@dataclasses.dataclass(frozen=True)
class ProtocolCard:
    """A protocol.

    Attributes:
        title: As reports print it.
        about: What is trained and tested, a sentence.
        tests: Label -> condition, in the order of tables.
        trained: What one model for all tests is trained on; `None` for a model for each test, that
            is trained on the same missingness.
        tests_of: Data set -> labels of its tests, where those are not all.
        summary: Import path of a function: rates, or numbers, of the tests -> values -> a number.
        summary_title: Of its column.
    """

    title: str
    about: str
    tests: Mapping[str, Condition]
    trained: Condition | None = None
    tests_of: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    summary: str = MEAN
    summary_title: str = "Mean"

    @property
    def names_modalities(self) -> bool:
        """Whether its tests are of modalities by name: those of the sentiment data sets."""
        return any(test.modality_rates for test in self.tests.values())

    def of(self, dataset: str) -> dict[str, Condition]:
        """The tests on a data set."""
        labels = self.tests_of.get(dataset, tuple(self.tests))
        return {label: self.tests[label] for label in labels}


def _rates(pattern: str, first: int, last: int) -> dict[str, Condition]:
    """Tests at first / 10 ... last / 10."""
    return {
        f"{10 * i}\u202f%": Condition((i / 10, i / 10), pattern) for i in range(first, last + 1)
    }


def _present(*names: str) -> Condition:
    """A test with these modalities alone."""
    gone = tuple((m, (1.0, 1.0)) for m in ("audio", "vision", "text") if m not in names)
    return Condition((0.0, 0.0), "modality", gone)


def _imbalanced(*rates: float) -> Condition:
    names = ("text", "audio", "vision")
    pairs = tuple((name, (rate, rate)) for name, rate in zip(names, rates, strict=True))
    return Condition((0.0, 0.0), "modality", pairs)


IMBALANCED = (0.1, 0.4, 0.7)

CARDS: dict[str, ProtocolCard] = {
    "p1": ProtocolCard(
        title="P1: independent frames",
        about="One model, trained at rates drawn from 0 to 100 %; frames and words are missing "
        "independently (LNLN and its followers).",
        tests=_rates("frames", 0, 9),
        trained=Condition((0.0, 1.0), "frames"),
    ),
    "p2": ProtocolCard(
        title="P2: a model for each rate",
        about="Frames and words are missing independently, in training at the rate of the test; "
        "AUILC is the area under the curve over the rate (TFR-Net, EMT-DLFR).",
        tests=_rates("frames", 1, 10),
        tests_of={"ch_sims": tuple(_rates("frames", 1, 5))},
        summary=AREA,
        summary_title="AUILC",
    ),
    "p3": ProtocolCard(
        title="P3: six conditions",
        about="One model, trained on one of the six conditions for each sample; the columns say "
        "what is there (MMIN).",
        tests={
            "audio": _present("audio"),
            "vision": _present("vision"),
            "text": _present("text"),
            "audio, vision": _present("audio", "vision"),
            "audio, text": _present("audio", "text"),
            "vision, text": _present("vision", "text"),
        },
        trained=Condition((0.5, 0.5), "six-conditions"),
    ),
    "p3-random": ProtocolCard(
        title="P3: modalities at random",
        about="One model, trained at rates drawn from 0 to 70 %; whole modalities are missing, "
        "never all of them (IMDer, DiCMoR, GCNet).",
        tests=_rates("modality", 0, 7),
        trained=Condition((0.0, 0.7), "modality"),
    ),
    "p4": ProtocolCard(
        title="P4: imbalanced rates",
        about="One model for complete and incomplete input, trained at rates drawn from 0 to 70 % "
        "for each modality; the columns give the rates of text / audio / vision (MissMAC-Bench, "
        "MissBench).",
        tests={
            "complete": Condition((0.0, 0.0), "modality"),
            **{
                " / ".join(f"{100 * rate:.0f}" for rate in rates) + "\u202f%": _imbalanced(*rates)
                for rates in itertools.permutations(IMBALANCED)
            },
        },
        trained=Condition((0.0, 0.7), "modality"),
    ),
}
