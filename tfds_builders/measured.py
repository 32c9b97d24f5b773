"""A builder's common part where a data set is measurements: any modalities, classes, no speech."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow_datasets.public_api as tfds

from . import files
from .features import Shape, describe, examples, spec
from .segments import Segments


@dataclasses.dataclass(eq=False)
class MeasuredConfig(tfds.core.BuilderConfig):
    """What a config of measurements says.

    Attributes:
        sizes: Examples a split, where known; others are a warning.
    """

    sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)


class MeasuredBuilder(
    tfds.core.GeneratorBasedBuilder,
    skip_registration=True,  # type: ignore[call-arg]  # of TFDS, which mypy skips
):
    """Reads all files of its manual directory, checks them, and writes one example a line.

    A data set subclasses it with its configs, `HOMEPAGE`, `SHAPES` (modality -> shape), `CLASSES`
    (names), `SOURCE` (what its files are called) and the two functions below.
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
        """All is read and checked before the first example is written."""
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
        """The files that are read; arguments and errors as of `find`."""
        return self.find(folder)

    # What follows needs no builder, which would make folders of its own: `inspect` asks it too.

    @classmethod
    def find(cls, folder: Any) -> list[Any]:
        """The files of a manual directory.

        Raises:
            FileNotFoundError: one is not there.
        """
        raise NotImplementedError

    @classmethod
    def read(cls, config: Any, folder: Any) -> dict[str, Segments]:
        """All splits.

        Args:
            config: One of the builder's.
            folder: The manual directory.

        Raises:
            FileNotFoundError: a file is not there.
            DataError: a file is not as it must be.
        """
        raise NotImplementedError
