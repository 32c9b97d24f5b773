"""A user's own data as a TFDS data set with a chosen name.

TFDS stores the features beside the data, so that reading it needs no code of this package.
"""

import pathlib
import re
import types
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets.public_api as tfds

from . import content, files, npy_folder, readers
from .features import describe, examples, spec
from .segments import MODALITIES, TEXT_BERT, Segments

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


class OwnData(
    tfds.core.GeneratorBasedBuilder,
    skip_registration=True,  # type: ignore[call-arg]  # of TFDS, which mypy skips
):
    """Builder of a user's segments; a subclass sets the name.

    Args:
        splits: What to write.
        source: The file or folder it was read from.
        digest: Its SHA-256.
    """

    pkg_dir_path = pathlib.Path(__file__).parent
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "As it was brought."}

    def __init__(
        self, *, splits: Mapping[str, Segments], source: Any, digest: str, **kwargs: Any
    ) -> None:
        self.segments, self.brought, self.digest = splits, pathlib.Path(source), digest
        super().__init__(**kwargs)

    def _info(self) -> Any:
        first = self.segments["train"]
        ragged = describe(self.segments).get("steps", {})
        shapes = {}
        for name in MODALITIES if first.raw_text else first.modalities:
            # Without text features there are tokens, and `examples` puts a step of zeros there.
            shape = first.features.get(name, np.zeros((1, 1, 1)))[0].shape
            shapes[name] = (None, *shape[1:]) if name in ragged else shape
        label: Any = np.float32
        if first.labels.dtype == np.int32:
            classes = max(int(one.labels.max()) for one in self.segments.values()) + 1
            label = (
                tfds.features.ClassLabel(names=list(first.classes))
                if first.classes
                else tfds.features.ClassLabel(num_classes=classes)
            )
        features = spec(
            shapes,
            with_text_bert=False,
            label=label,
            unimodal=tuple(first.unimodal),
            tokens=first.features[TEXT_BERT].shape[2] if TEXT_BERT in first.features else None,
            lengths=[name for name in shapes if f"{name}_length" in first.features],
            with_raw_text=bool(first.raw_text),
        )
        metadata = tfds.core.MetadataDict(describe(self.segments))
        metadata["source"] = {"name": self.brought.name, "sha256": self.digest}
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"Own data, from {self.brought.name}.",
            features=features,
            metadata=metadata,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {split: self._generate_examples(one) for split, one in self.segments.items()}

    def _generate_examples(self, segments: Segments) -> Any:
        yield from examples(segments, with_text_bert=TEXT_BERT in segments.features)
        for rows in segments.features.values():
            if isinstance(rows, npy_folder.Rows) and rows.repairs.counts:
                warnings.warn(
                    f"{self.brought.name}: {rows.repairs.text()} were -inf and became 0.",
                    stacklevel=2,
                )
                rows.repairs.counts.clear()


def check_name(name: str, taken: Any) -> None:
    """Checks that a name is valid in TFDS and not taken.

    Raises:
        ValueError: It is invalid or taken.
    """
    if not NAME.fullmatch(name) or name in taken:
        raise ValueError(
            "`name` must be lower case letters, digits and single underscores, a letter first, and "
            f"none of {sorted(taken)}. Received: {name!r}."
        )


def sources(source: Any) -> list[pathlib.Path]:
    """The files that `builder` reads.

    Raises:
        FileNotFoundError: The path does not exist.
    """
    source = pathlib.Path(source)
    if not source.exists():
        raise FileNotFoundError(f"`--from` must be a file or a folder. Received: {source}")
    path = readers.Source(source).path
    if found := content.sources(path):
        return found
    return npy_folder.sources(path) if path.is_dir() else [path]


def builder(name: str, source: Any, data_dir: str | None) -> Any:
    """A builder of own data; all has been read except the features of a folder.

    Args:
        name: As `check_name` wants it.
        source: What `readers.read` reads.
        data_dir: Where TFDS keeps prepared data sets.

    Raises:
        FileNotFoundError: a file is not there.
        DataError: the file breaks its schema, or is of another layout.
    """
    if not pathlib.Path(source).exists():
        raise FileNotFoundError(f"`--from` must be a file or a folder. Received: {source}")
    splits = readers.read(source)
    digest = files.digest(sources(source))
    title = "".join(part.capitalize() for part in name.split("_"))
    options = {"skip_registration": True}
    cls = types.new_class(title, (OwnData,), options, lambda body: body.update(name=name))
    return cls(splits=splits, source=source, digest=digest, data_dir=data_dir)
