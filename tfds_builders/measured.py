"""Base class of the builders of measurements: any modalities, classes as labels."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow_datasets.public_api as tfds

from . import files
from .features import Shape, describe, examples, spec
from .segments import Segments


@dataclasses.dataclass(eq=False)
class MeasuredConfig(tfds.core.BuilderConfig):
    """Config of a builder of measurements.

    Attributes:
        sizes: Known number of examples of each split; others cause a warning.
    """

    sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)


class MeasuredBuilder(
    tfds.core.GeneratorBasedBuilder,
    skip_registration=True,  # type: ignore[call-arg]  # of TFDS, which mypy skips
):
    """Reads all files of a manual directory, checks them and writes the examples.

    A subclass sets the configs, `HOMEPAGE`, `SHAPES` (modality -> shape), `CLASSES` (names) and
    `SOURCE` (names of the files, for messages), and defines `find` and `read`.
    """

    HOMEPAGE: str
    SHAPES: Mapping[str, Shape]
    CLASSES: tuple[str, ...]
    SOURCE: str

    def _info(self) -> Any:
        return self.dataset_info_from_configs(
            features=spec(
                self.SHAPES,
                with_text_bert=False,
                label=tfds.features.ClassLabel(names=list(self.CLASSES)),
                lengths=(),
                with_raw_text=False,
            ),
            homepage=self.HOMEPAGE,
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        """Reads and checks all files before the first example is written."""
        folder = files.manual_dir(dl_manager)
        config = self.builder_config
        splits = self.read(config, folder)
        sizes = {split: len(segments) for split, segments in splits.items()}
        files.check_sizes(f"{self.name}/{config.name}", self.SOURCE, sizes, dict(config.sizes))
        digest = files.digest(self.sources(folder))
        self.info.metadata["source"] = {"name": self.SOURCE, "sha256": digest}
        self.info.metadata.update(describe(splits))
        return {split: self._generate_examples(segments) for split, segments in splits.items()}

    def _generate_examples(self, segments: Segments) -> Any:
        return examples(segments, with_text_bert=False)

    def sources(self, folder: Any) -> list[Any]:
        """The files that `find` returns."""
        return self.find(folder)

    # What follows needs no builder, which would make folders of its own: `inspect` asks it too.

    @classmethod
    def find(cls, folder: Any) -> list[Any]:
        """Finds the files in a manual directory.

        Raises:
            FileNotFoundError: A file does not exist.
        """
        raise NotImplementedError

    @classmethod
    def read(cls, config: Any, folder: Any) -> dict[str, Segments]:
        """Reads all splits.

        Args:
            config: A config of the builder.
            folder: The manual directory.

        Raises:
            FileNotFoundError: A file does not exist.
            DataError: A file is invalid.
        """
        raise NotImplementedError
