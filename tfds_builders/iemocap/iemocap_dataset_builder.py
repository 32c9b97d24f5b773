"""IEMOCAP in four classes of emotion, ten folds, from the files of MMIN's authors."""

import contextlib
import dataclasses
import pathlib
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets.public_api as tfds

if __package__ == "iemocap":  # `tfds build` in this folder imports it without its parent
    sys.path.append(str(pathlib.Path(__file__).parents[2]))
    __package__ = f"{pathlib.Path(__file__).parents[1].name}.iemocap"

from .. import files, hdf5
from ..features import STEPS, filled, spec
from ..limits import Problems
from ..sequences import Repairs
from .mmin_files import (
    CLASSES,
    FEATURES,
    MEAN_STD,
    SPLITS,
    Target,
    check_features,
    check_targets,
    mean_std,
    target,
)

COLUMNS = {"audio": 130, "vision": 342, "text": 1024}
UTTERANCES = 5531
"""Number of utterances in the four classes, over all splits of a fold."""


@dataclasses.dataclass(eq=False)
class IemocapConfig(tfds.core.BuilderConfig):
    """A fold of the cross-validation.

    Attributes:
        fold: 1 .. 10, the folder in `target/`.
        columns: Features a step, of each modality.
        utterances: In the whole fold; another number is a warning.
    """

    fold: int = 1
    columns: Mapping[str, int] = dataclasses.field(default_factory=lambda: COLUMNS)
    utterances: int = UTTERANCES


class Iemocap(tfds.core.GeneratorBasedBuilder):
    """Emotion of utterances in dialogues of two actors: four classes, ten folds by speaker."""

    pkg_dir_path = pathlib.Path(__file__).parent  # else TFDS guesses it from the module's name
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "IEMOCAP is licensed by USC (https://sail.usc.edu/iemocap/). With a licence, put the "
        "feature folders A, V, L and target of https://github.com/AIM3-RUC/MMIN there."
    )
    BUILDER_CONFIGS = [
        IemocapConfig(name=f"fold{fold}", description=f"Fold {fold} of 10.", fold=fold)
        for fold in range(1, 11)
    ]
    DEFAULT_BUILDER_CONFIG_NAME = "fold1"

    def _info(self) -> Any:
        columns = self.builder_config.columns
        return self.dataset_info_from_configs(
            features=spec(
                {name: (None, columns[name]) for name in FEATURES},
                with_text_bert=False,
                label=tfds.features.ClassLabel(num_classes=CLASSES),
            ),
            homepage="https://sail.usc.edu/iemocap/",
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def sources(self, folder: Any) -> list[Any]:
        """The files this fold is made from; arguments and errors as of `find`."""
        return self.find(self.builder_config, folder)

    # What follows needs no builder, which would make folders of its own: `inspect` asks it too.

    @classmethod
    def find(cls, config: IemocapConfig, folder: Any) -> list[Any]:
        """The files a fold is made from; those of features are large.

        Args:
            config: The fold.
            folder: The manual directory.

        Raises:
            FileNotFoundError: one is not there.
        """
        fold = config.fold
        kinds = ("int2name", "label")
        names = [f"target/{fold}/{s}_{kind}.npy" for s in SPLITS.values() for kind in kinds]
        names = [*FEATURES.values(), *names]
        absent = [name for name in names if not (folder / name).is_file()]
        if absent:
            raise FileNotFoundError(
                f"`{cls.name}/{config.name}` reads {names} in its manual directory, "
                f"{folder}. Missing: {absent}. {cls.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            )
        return [folder / name for name in (*names, MEAN_STD) if (folder / name).is_file()]

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        folder = files.manual_dir(dl_manager)
        digest = files.digest(self.sources(folder))
        splits, longest = self.splits(self.builder_config, folder)
        self.info.metadata["source"] = {"name": "A, V, L and target", "sha256": digest}
        self.info.metadata[STEPS] = longest
        return dict(splits)

    @classmethod
    def splits(
        cls, config: IemocapConfig, folder: Any
    ) -> tuple[dict[str, Iterator[tuple[int, dict[str, Any]]]], dict[str, int]]:
        """Describes a fold.

        Args:
            config: The fold.
            folder: The manual directory.

        Returns:
            Split -> its examples, read one at a time; what is wrong with any is raised at the end.
            Modality -> the most steps there are, at least 1.

        Raises:
            FileNotFoundError: a file is not there.
            DataError: the files are not as `mmin_files` has it.
        """
        cls.find(config, folder)
        targets = {split: target(folder, config.fold, split) for split in SPLITS}
        check_targets(config.fold, targets)
        ids = [name for one in targets.values() for name in one.ids]
        if len(ids) != config.utterances:
            warnings.warn(
                f"IEMOCAP has {config.utterances} utterances in four classes. Received: "
                f"{len(ids)} in fold {config.fold}. It is read as it is, but scores on it do not "
                "compare with published ones.",
                stacklevel=2,
            )
        with _opened(folder) as opened:
            longest = check_features(opened, config.columns, ids)
            scale = mean_std(
                folder, config.fold, opened["audio"], targets["train"].ids, config.columns["audio"]
            )
        splits = {
            split: cls._examples(config, folder, split, one, scale)
            for split, one in targets.items()
        }
        return splits, {name: max(1, most) for name, most in longest.items()}

    def _generate_examples(self, examples: Any) -> Any:
        return examples

    @classmethod
    def _examples(
        cls, config: IemocapConfig, folder: Any, split: str, one: Target, scale: Any
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields one utterance at a time, so that a fold is never in memory as a whole."""
        repairs, problems = Repairs(), Problems()
        with _opened(folder) as opened:
            for row, (name, label) in enumerate(zip(one.ids, one.labels, strict=True)):
                example: dict[str, Any] = {"id": name, "raw_text": "", "label": label, "index": row}
                with problems.noted():
                    example |= _features(config, opened, name, scale, repairs)
                if not problems.found:
                    yield row, example
        problems.raise_any()
        if repairs.counts:
            warnings.warn(f"{split}: {repairs.text()} were -inf and became 0.", stacklevel=2)


def _features(
    config: IemocapConfig, opened: Mapping[str, Any], name: str, scale: Any, repairs: Repairs
) -> dict[str, Any]:
    """Sequences and true steps of an utterance."""
    found: dict[str, Any] = {}
    for modality, file in opened.items():
        place = FEATURES[modality]
        values = hdf5.array(file, name, place, config.columns[modality])
        values = repairs.sequence(f"{place}, {name}", modality, values)
        if modality == "audio":
            values = ((values - scale[0]) / scale[1]).astype(np.float32)
        found[modality], found[f"{modality}_length"] = filled(values), len(values)
    return found


@contextlib.contextmanager
def _opened(folder: Any) -> Iterator[dict[str, Any]]:
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(hdf5.opened(folder / path)) for name, path in FEATURES.items()
        }
