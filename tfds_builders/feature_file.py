"""Base class of builders whose data set is published as one feature file."""

import dataclasses
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets.public_api as tfds

from . import files, formats, mmsa
from .features import Shape, describe, examples, spec
from .limits import DataError
from .segments import MODALITIES, TEXT_BERT, UNIMODAL, Segments, check_range

ANY_SHAPE: dict[str, Shape] = dict.fromkeys(MODALITIES, (None, None))


@dataclasses.dataclass(eq=False)
class FileConfig(tfds.core.BuilderConfig):
    """The file to read, and what it must hold.

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
    modality by itself; `find` and `read` where it takes other files as well.
    """

    HOMEPAGE: str
    RANGE: tuple[float, float]
    UNIMODAL_LABELS = False

    def _info(self) -> Any:
        alone = tuple(UNIMODAL) if self.UNIMODAL_LABELS else ()
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
        splits = self.read_checked(config, paths)
        self.info.metadata["source"] = {"name": _names(paths), "sha256": digest}
        self.info.metadata.update(describe(splits))
        return {split: self._generate_examples(segments) for split, segments in splits.items()}

    @classmethod
    def read_checked(cls, config: FileConfig, paths: Sequence[Any]) -> dict[str, Segments]:
        """The content of the files that `find` found, as it is written.

        Raises:
            DataError: it is not what the config reads.
        """
        splits = cls.read(config, list(paths))
        name = _names(paths)
        cls.check(config, name, splits)
        sizes = {split: len(segments) for split, segments in splits.items()}
        files.check_sizes(cls.name, name, sizes, dict(config.sizes))
        unrated = sorted({*UNIMODAL} - {*splits["train"].unimodal}) if cls.UNIMODAL_LABELS else []
        if unrated:
            warnings.warn(
                f"{name} has no labels of {unrated} alone. No model reads them.", stacklevel=3
            )
        for segments in splits.values():
            for modality in unrated:
                segments.unimodal[modality] = np.full(len(segments), np.nan, np.float32)
        return splits

    def _generate_examples(self, segments: Segments) -> Any:
        return examples(segments)

    def sources(self, folder: Any) -> list[Any]:
        """The files that are read; arguments and errors as of `find`."""
        return self.find(self.builder_config, folder)

    # What follows needs no builder, which would make folders of its own: `inspect` asks it too.

    @classmethod
    def find(cls, config: FileConfig, folder: Any) -> list[Any]:
        """The files that a config reads.

        Args:
            config: One of the builder's.
            folder: The manual directory.

        Raises:
            FileNotFoundError: one is not there, or the choice is not clear.
        """
        found = files.pickles_in(folder)
        if config.file is not None:
            path = files.find(folder, config.file)
            if path.is_file():
                return [path]
        elif len(found) == 1:
            return found
        elif len(found) > 1:
            raise cls._several(config, folder, [path.name for path in found])
        raise cls.absent(config, config.file or "the one .pkl file", folder)

    @classmethod
    def _several(cls, config: FileConfig, folder: Any, found: list[str]) -> FileNotFoundError:
        """Returns the error for several files, with the options that choose one."""
        known = {name: one.file for name, one in cls.builder_configs.items() if one.file}
        options = [f"`--config {name}`" for name, file in known.items() if file in found]
        others = [name for name in found if name not in known.values()]
        choice = f"Choose with {' or '.join(options)}. " if options else ""
        if others:
            choice += (
                f"For {others[0]}: `keras-m3s prepare --from {pathlib.Path(folder) / others[0]} "
                "--name NAME`, or leave it there alone."
            )
        return FileNotFoundError(
            f"`{cls.name}/{config.name}` reads the one .pkl file in its manual "
            f"directory, {folder}. Received: {found}. {choice}"
        )

    @classmethod
    def absent(cls, config: FileConfig, wanted: str, folder: Any) -> FileNotFoundError:
        """Returns the error for missing files: which must be where, and what is there."""
        folder = pathlib.Path(folder)
        within = files.find(folder, "Processed")
        found = sorted(path.name for path in folder.iterdir())[:12] if folder.is_dir() else []
        hint = cls.MANUAL_DOWNLOAD_INSTRUCTIONS
        if inside := [path.name for path in files.pickles_in(within)]:
            choice = [f"--config {name}" for name, one in cls.builder_configs.items()
                      if one.file in inside and len(inside) > 1]  # fmt: skip
            option = f" with {' or '.join(choice)}" if choice else ""
            hint = f"Look in the folder below: `--manual-dir {within}`{option}. It has {inside}."
        for name in found:
            path = folder / name
            packed = path.is_file() and formats.sniff(path)
            if packed and packed.advice.startswith("Unpack") and not inside:
                hint = f"{name} is {packed.title}. {packed.advice}."
        return FileNotFoundError(
            f"`{cls.name}/{config.name}` reads {wanted} in its manual directory, "
            f"{folder}. Received: {found or 'nothing there'}. {hint}"
        )

    @classmethod
    def read(cls, config: FileConfig, paths: list[Any]) -> dict[str, Segments]:
        """The content of the files that `find` found."""
        return mmsa.read(paths[0])

    @classmethod
    def check(cls, config: FileConfig, name: str, splits: Mapping[str, Segments]) -> None:
        """Segments must have the shapes of the config, and scores on this data set's scale.

        Args:
            config: One of the builder's.
            name: What to call them in messages.
            splits: All there are.

        Raises:
            DataError: they have not.
        """
        train = splits["train"]
        place = f"`{cls.name}/{config.name}`"
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
        tokens = train.features.get(TEXT_BERT, np.zeros((1, 3, 0))).shape[1:]
        if length is not None and tokens != (3, length):
            raise DataError(
                f"{place} must hold `text_bert` of shape (N, 3, {length}). "
                f"Received: (N, {tokens[0]}, {tokens[1]}) in {name}. Use the config `from_file`."
            )
        check_range(name, splits, *cls.RANGE)


def _names(paths: Sequence[Any]) -> str:
    return ", ".join(path.name for path in paths)
