"""Tests of a trained run under several draws of the holes, on validation or test data.

A single draw is half of the noise of a test. Each test is a file of the run's directory,
`draws-*.json`: `split`, `test_missing_rate`, `pattern`, `modality_rates` and `draws`, the metrics
under each.
"""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_m3s.experiments.run_directory import DamagedRunError, RunDirectory
from keras_m3s.registry.patterns import Condition

if TYPE_CHECKING:  # it imports Keras
    from keras_m3s.experiments.programs import Programs


@dataclasses.dataclass(frozen=True)
class DrawnTest:
    """A test to make.

    Attributes:
        condition: What is missing.
        split: `"valid"` or `"test"`.
        draws: Number of draws.
    """

    condition: Condition
    split: str = "test"
    draws: int = 5

    def file(self, run: RunDirectory) -> str:
        """Name of its file in a run's directory."""
        name = run.retest_file(*self.condition).name.removeprefix("retest-")
        return f"draws-{self.split}-{name}"


def read(run: RunDirectory, test: DrawnTest) -> list[dict[str, float]]:
    """The metrics under each draw, of a test that has been made; else none.

    Raises:
        DamagedRunError: The file does not hold them.
    """
    name = test.file(run)
    if not (run.path / name).is_file():
        return []
    draws = run.read_json(name).get("draws")
    if not isinstance(draws, list) or not all(_is_metrics(draw) for draw in draws):
        raise DamagedRunError(
            f"`draws` in {run.path / name} must be a list of metrics. Received: {draws!r}. Delete "
            "the file and run the same command again."
        )
    return draws[: test.draws] if len(draws) >= test.draws else []


def mean(draws: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means of the metrics over draws, at least one."""
    return {name: statistics.fmean(draw[name] for draw in draws) for name in draws[0]}


def make(
    run: RunDirectory,
    splits: Mapping[str, Any],
    tests: Iterable[DrawnTest],
    programs: "Programs | None" = None,
) -> None:
    """Tests a trained run's best model and writes the results, unless they are there.

    Args:
        run: A run that has been trained.
        splits: `valid` and `test`.
        tests: The tests.
        programs: Where to share what is compiled.

    Raises: as `keras_m3s.experiments.evaluation.retest`.
    """
    # Imports Keras, which reading does without.
    from keras_m3s.experiments.environment import check_unchanged
    from keras_m3s.experiments.evaluation import Tester

    left = [test for test in tests if not read(run, test)]
    if not left:
        return
    check_unchanged(run, {test.split: splits[test.split] for test in left})
    tester = Tester(run, programs)
    for test in left:
        rate, pattern, own = test.condition
        values = {
            "split": test.split,
            "test_missing_rate": list(rate),
            "pattern": pattern,
            **({"modality_rates": {m: list(r) for m, r in own}} if own else {}),
            "draws": tester.scores(splits[test.split], test.condition, test.draws),
        }
        run.write_json(test.file(run), values)


def _is_metrics(draw: Any) -> bool:
    return isinstance(draw, dict) and all(isinstance(v, (int, float)) for v in draw.values())
