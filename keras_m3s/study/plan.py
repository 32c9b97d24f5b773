"""What the paper's tables and figures take to be made, as lists of runs.

    name       runs                                                                        section
    table2     four models x three methods, 40-60 % missing                                5.1
    table3     MMIN and MMIM x three methods x three levels, tested as trained             5.2
    table4     MMIN and MMIM x three methods, trained at 40-60 %, tested at 60-80 %        5.4
    table5     t-tests over the runs of Table 2                                            5.5
    figure1    a metric of MMIN as training goes on, three methods                         1
    figure3    validation and test loss of MMIM as training goes on                        5.3
    figure4    UAR and F1 of MMIN as training goes on                                      5.3

and beyond the paper:

    budget     Table 2 with SPL-TRN given as many gradients as M3S
    matrix     each level trained on x each level tested on, MMIN and MMIM
    steps      M3S with K inner steps, and SPL-TRN with as many gradients
    alpha      M3S with inner rates of a tenth and of ten times the paper's
    order      M3S by first and second order gradients
    site       holes in encoded vectors beside holes in raw sequences
    protocols  holes of other patterns, tested at many rates

`paper` is the first seven, `all` is everything. A run that several of them need is one run.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from keras_m3s.experiments.config import METHODS, MISSING_LEVELS, Experiment

Rate = tuple[float, float]

CELLS: dict[str, str] = {
    "self_mm": "ch_sims",
    "mmin": "iemocap",
    "misa": "cmu_mosi",
    "mmim": "cmu_mosi",
}
"""Model -> data set, in the order of Table 2."""

VARIED: tuple[str, ...] = ("mmin", "mmim")
"""Models of sections 5.2 to 5.4."""

STAND_INS: dict[str, str] = {
    "ch_sims": "synthetic_msa",
    "cmu_mosi": "synthetic_msa",
    "iemocap": "synthetic_msa/iemocap",
}
"""Generated data for who has none of the paper's: data set of the paper -> what stands for it."""

_SMALL_DATA = "train=240,valid=80,test=160,text=12x16,audio=12x5,vision=12x8"

QUICK_STAND_INS: dict[str, str] = {
    "ch_sims": f"synthetic_msa/{_SMALL_DATA}",
    "cmu_mosi": f"synthetic_msa/{_SMALL_DATA}",
    "iemocap": f"synthetic_msa/{_SMALL_DATA},classes=4",
}
"""The same for `quick`."""

INNER_STEPS: tuple[int, ...] = (1, 2, 3, 5)
ALPHA_FACTORS: tuple[float, ...] = (0.1, 1.0, 10.0)

FRAME_RATES: tuple[float, ...] = tuple(i / 10 for i in range(10))
"""Test rates of the protocol of independent frames, trained at all rates."""

MODALITY_RATES: tuple[float, ...] = tuple(i / 10 for i in range(8))
"""The same of whole modalities."""

QUICK: dict[str, dict[str, Any]] = {
    "misa": {"hidden_size": 8, "transformer_size": 16},
    "mmim": {
        "hidden_size": 16,
        "audio_hidden_size": 8,
        "vision_hidden_size": 8,
        "audio_size": 8,
        "vision_size": 8,
    },
    "self_mm": {
        "audio_hidden_size": 8,
        "vision_hidden_size": 8,
        "audio_size": 8,
        "vision_size": 8,
        "post_fusion_size": 16,
        "post_text_size": 16,
        "post_audio_size": 8,
        "post_vision_size": 8,
    },
    "mmin": {
        "audio_size": 8,
        "vision_size": 8,
        "text_size": 8,
        "text_channels": 8,
        "classifier_layers": [8],
        "autoencoder_layers": [16, 8],
        "n_blocks": 2,
    },
}
"""Arguments of models that are small, for `quick`."""

QUICK_SETTINGS: dict[str, Any] = {
    "epochs": 8,
    "batch_size": 32,
    "learning_rate": 5e-3,
}


@dataclasses.dataclass(frozen=True)
class Condition:
    """Holes that a trained model is tested under: their rate `(low, high)` and pattern."""

    missing_rate: Rate
    pattern: str = "span"


@dataclasses.dataclass(frozen=True)
class Planned:
    """A run to make, and what else its model is to be tested under."""

    experiment: Experiment
    retests: tuple[Condition, ...] = ()


@dataclasses.dataclass(frozen=True)
class Settings:
    """What holds for all runs of a study.

    Attributes:
        datasets: Data set of the paper -> name of what is taken for it; one that is not in it is
            left out.
        seeds: Seeds of each run.
        quick: Whether to take small models and few epochs.
        select: See `Experiment`.
        methods: What the paper's tables and figures compare.
    """

    datasets: Mapping[str, str]
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    quick: bool = False
    select: str = "validation"
    methods: Sequence[str] = METHODS

    def of(
        self,
        model: str,
        methods: Sequence[str] | None = None,
        missing_rate: Rate = MISSING_LEVELS["medium"],
        retests: Sequence[Condition] = (),
        **overrides: Any,
    ) -> Iterator[Planned]:
        """Runs of a model on its data set by each method, or by `methods`, and with each seed."""
        dataset = self.datasets.get(CELLS[model])
        if dataset is None:
            return
        values: dict[str, Any] = {"select": self.select}
        if self.quick:
            values |= {**QUICK_SETTINGS, "model_arguments": QUICK[model]}
            if model == "self_mm":  # a rate for each group; a step takes 4 batches
                values |= {"learning_rate": None, "batch_size": 16}
            if model == "mmin":
                values["first_stage_epochs"] = 2
        for method in methods or self.methods:
            for seed in self.seeds:
                made = Experiment.of(
                    dataset, model, method, missing_rate, seed=seed, **{**values, **overrides}
                )
                yield Planned(made, tuple(retests))


def _table2(s: Settings) -> Iterator[Planned]:
    for model in CELLS:
        yield from s.of(model)


def _table3(s: Settings) -> Iterator[Planned]:
    for model in VARIED:
        for level in ("high", "medium", "low"):
            yield from s.of(model, missing_rate=MISSING_LEVELS[level])


def _table4(s: Settings) -> Iterator[Planned]:
    for model in VARIED:
        yield from s.of(model, retests=[Condition(MISSING_LEVELS["high"])])


def _figure1(s: Settings) -> Iterator[Planned]:
    yield from s.of("mmin")


def _figure3(s: Settings) -> Iterator[Planned]:
    yield from s.of("mmim")


def _budget(s: Settings) -> Iterator[Planned]:
    for model in CELLS:
        yield from s.of(model, ("spl-trn", "spl-trn-equal", "m3s"))


def _matrix(s: Settings) -> Iterator[Planned]:
    for model in VARIED:
        for level in MISSING_LEVELS.values():
            others = [Condition(rate) for rate in MISSING_LEVELS.values() if rate != level]
            yield from s.of(model, missing_rate=level, retests=others)


def _steps(s: Settings) -> Iterator[Planned]:
    for model in VARIED:
        for steps in INNER_STEPS[:3] if s.quick else INNER_STEPS:
            yield from s.of(model, ("spl-trn-equal", "m3s"), inner_steps=steps)


def _alpha(s: Settings) -> Iterator[Planned]:
    for model in VARIED:
        for factor in ALPHA_FACTORS:
            for planned in s.of(model, ("m3s",)):
                rates = planned.experiment.inner_learning_rate
                scaled = (
                    {pattern: rate * factor for pattern, rate in rates.items()}
                    if isinstance(rates, Mapping)
                    else rates * factor
                )
                changed = planned.experiment.replace(inner_learning_rate=scaled)
                yield dataclasses.replace(planned, experiment=changed)


def _order(s: Settings) -> Iterator[Planned]:
    for model in VARIED:
        for first_order in (True, False):
            yield from s.of(model, ("m3s",), first_order=first_order)


def _site(s: Settings) -> Iterator[Planned]:
    for model in CELLS:
        for site in ("raw", "encoded"):
            yield from s.of(model, site=site)


def _protocols(s: Settings) -> Iterator[Planned]:
    for model in VARIED:
        for pattern, rates in (("frames", FRAME_RATES), ("modality", MODALITY_RATES)):
            retests = [Condition((rate, rate), pattern) for rate in rates]
            trained = (0.0, 1.0) if pattern == "frames" else (0.0, max(rates))
            yield from s.of(model, missing_rate=trained, retests=retests, pattern=pattern)


PAPER: dict[str, Callable[[Settings], Iterator[Planned]]] = {
    "table2": _table2,
    "table3": _table3,
    "table4": _table4,
    "table5": _table2,
    "figure1": _figure1,
    "figure3": _figure3,
    "figure4": _figure1,
}
BEYOND: dict[str, Callable[[Settings], Iterator[Planned]]] = {
    "budget": _budget,
    "matrix": _matrix,
    "steps": _steps,
    "alpha": _alpha,
    "order": _order,
    "site": _site,
    "protocols": _protocols,
}
STUDIES = PAPER | BEYOND

NAMES: tuple[str, ...] = (*STUDIES, "paper", "all")
"""What `plan` takes."""


def models_of(name: str) -> tuple[str, ...]:
    """Models that a study has rows for."""
    found = plan(name, Settings({d: d for d in CELLS.values()}, seeds=(0,)))
    return tuple(dict.fromkeys(planned.experiment.model for planned in found))


def plan(name: str, settings: Settings) -> list[Planned]:
    """The runs of a study, each once, with all that it is to be tested under.

    Args:
        name: One of `NAMES`.
        settings: What holds for all of them.

    Raises:
        ValueError: If there is no such study.
    """
    groups = {"paper": PAPER, "all": STUDIES}
    if name not in NAMES:
        raise ValueError(f"`name` must be one of {NAMES}. Received: {name!r}.")
    merged: dict[str, Planned] = {}
    for make in groups.get(name, {name: STUDIES.get(name, _table2)}).values():
        for planned in make(settings):
            key = planned.experiment.key
            before = merged.get(key, planned)
            retests = dict.fromkeys((*before.retests, *planned.retests))
            merged[key] = dataclasses.replace(planned, retests=tuple(retests))
    return list(merged.values())
