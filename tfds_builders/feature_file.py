"""A builder's common part where a data set comes as one feature file of the community."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets.public_api as tfds

from . import files, mmsa
from .features import Shape, describe, examples, spec
from .pickles import DataError

ANY_SHAPE: dict[str, Shape] = dict.fromkeys(mmsa.MODALITIES, (None, None))


@dataclasses.dataclass(eq=False)
class FileConfig(tfds.core.BuilderConfig):
    """Which file, and what it must hold.

    Attributes:
        file: Its name in the manual directory; `None` for the one pickle that lies there.
        shapes: `(steps, dim)` of each modality; `None` sizes are those of the file.
        sizes: Segments a split, where known; others are a warning.
        sha256: Of the release the config was written for, where known; another is a warning.
    """

    file: str | None = None
    shapes: Mapping[str, Shape] = dataclasses.field(default_factory=lambda: ANY_SHAPE)
    sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    sha256: str | None = None


class FeatureFileBuilder(
    tfds.core.GeneratorBasedBuilder,
    skip_registration=True,  # type: ignore[call-arg]  # of TFDS, which mypy skips
):
    """Reads, checks and writes the file of its config.

    A data set subclasses it with its configs, `HOMEPAGE`, `RANGE` and whether it has labels of each
    modality by itself; `sources` and `read` where it takes other files as well.
    """

    HOMEPAGE: str
    RANGE: tuple[float, float]
    UNIMODAL_LABELS = False

    def _info(self) -> Any:
        alone = tuple(mmsa.UNIMODAL) if self.UNIMODAL_LABELS else ()
        return self.dataset_info_from_configs(
            features=spec(self.builder_config.shapes, unimodal=alone),
            homepage=self.HOMEPAGE,
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        """All of the file is read and checked before the first example is written."""
        config = self.builder_config
        paths = self.sources(files.manual_dir(dl_manager))
        digest = files.digest(paths)
        files.check_known(f"{self.name}/{config.name}", paths[0], digest, config.sha256)
        splits = self.read(paths)
        name = ", ".join(path.name for path in paths)
        self._check(name, splits)
        sizes = {split: len(segments) for split, segments in splits.items()}
        files.check_sizes(self.name, name, sizes, dict(config.sizes))
        self.info.metadata["source"] = {"name": name, "sha256": digest}
        self.info.metadata.update(describe(splits))
        return {split: self._generate_examples(segments) for split, segments in splits.items()}

    def _generate_examples(self, segments: mmsa.Segments) -> Any:
        return examples(segments)

    def sources(self, folder: Any) -> list[Any]:
        """The files this config reads.

        Args:
            folder: The manual directory.

        Raises:
            FileNotFoundError: one is not there, or the choice is not clear.
        """
        config = self.builder_config
        found = sorted(path.name for path in folder.glob("*.pkl")) if folder.is_dir() else []
        wanted = [config.file] if config.file else found
        if len(wanted) == 1 and wanted[0] in found:
            return [folder / wanted[0]]
        raise self.absent(config.file or "the one .pkl file", folder, found)

    def absent(self, wanted: str, folder: Any, found: list[str]) -> FileNotFoundError:
        """The error that says which files are wanted where."""
        return FileNotFoundError(
            f"`{self.name}/{self.builder_config.name}` reads {wanted} in its manual directory, "
            f"{folder}. Received: {found or 'no .pkl file'}. {self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
        )

    def read(self, paths: list[Any]) -> dict[str, mmsa.Segments]:
        """The content of the files that `sources` found."""
        return mmsa.read(paths[0])

    def _check(self, name: str, splits: Mapping[str, mmsa.Segments]) -> None:
        config, train = self.builder_config, splits["train"]
        place = f"`{self.name}/{config.name}`"
        for modality, wanted in config.shapes.items():
            if modality not in train.features or wanted == (None, None):
                continue
            shape = train.features[modality][0].shape
            if any(one not in (None, size) for one, size in zip(wanted, shape, strict=True)):
                form = ", ".join("steps" if one is None else str(one) for one in wanted)
                raise DataError(
                    f"{place} must hold `{modality}` of shape (N, {form}). Received: "
                    f"(N, {shape[0]}, {shape[1]}) in {name}. The config `from_file` takes its "
                    "shapes from the file."
                )
        length = config.shapes["text"][0]
        tokens = train.features.get(mmsa.TEXT_BERT, np.zeros((1, 3, 0))).shape[1:]
        if length is not None and tokens != (3, length):
            raise DataError(
                f"{place} must hold `text_bert` of shape (N, 3, {length}). "
                f"Received: (N, {tokens[0]}, {tokens[1]}) in {name}. Use the config `from_file`."
            )
        if self.UNIMODAL_LABELS and len(train.unimodal) < len(mmsa.UNIMODAL):
            raise DataError(
                f"{name} must hold `regression_labels_T`, `_A` and `_V`. Received: those of "
                f"{sorted(train.unimodal)}."
            )
        low, high = self.RANGE
        for split, segments in splits.items():
            if segments.labels.dtype != np.float32:
                raise DataError(
                    f"{name} must hold `regression_labels`, sentiment from {low:g} to {high:g}."
                )
            for labels in (segments.labels, *segments.unimodal.values()):
                if labels.min() < low - 1e-3 or labels.max() > high + 1e-3:
                    raise DataError(
                        f"{name}, {split}: labels must lie in {low:g}..{high:g}. Received: "
                        f"{labels.min():g}..{labels.max():g}. Other scales: `keras-m3s prepare "
                        "--from`."
                    )
