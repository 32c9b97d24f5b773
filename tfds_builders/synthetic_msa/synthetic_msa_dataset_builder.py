"""Generated multimodal sentiment data, which needs no download."""

import dataclasses
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets.public_api as tfds

if __package__ == "synthetic_msa":  # `tfds build` in this folder imports it without its parent
    sys.path.append(str(pathlib.Path(__file__).parents[2]))
    __package__ = f"{pathlib.Path(__file__).parents[1].name}.synthetic_msa"

from ..features import spec
from .generate import SPLITS, Recipe, segment

MOSI_SIZES = {"train": 1284, "valid": 229, "test": 686}
VIDEOS = {"train": 52, "valid": 10, "test": 31}
TINY_SHAPES = {"text": (8, 6), "audio": (12, 3), "vision": (10, 4)}
TINY_SIZES = {"train": 24, "valid": 8, "test": 9}


@dataclasses.dataclass(eq=False)
class SyntheticConfig(tfds.core.BuilderConfig):
    """A recipe with a name."""

    recipe: Recipe = dataclasses.field(default_factory=lambda: Recipe({}, {}))


class SyntheticMsa(tfds.core.GeneratorBasedBuilder):
    """Sentiment shown redundantly by three modalities and over time; generated."""

    pkg_dir_path = pathlib.Path(__file__).parent  # else TFDS guesses it from the module's name
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = [
        SyntheticConfig(
            name="mosi",
            description="Split sizes of MOSI, 50 steps a modality, text narrowed to 64.",
            recipe=Recipe({"text": (50, 64), "audio": (50, 5), "vision": (50, 20)}, MOSI_SIZES),
        ),
        SyntheticConfig(
            name="mosi_full",
            description="Sizes and shapes of MOSI's unaligned_50: about 440 MB.",
            recipe=Recipe({"text": (50, 768), "audio": (375, 5), "vision": (500, 20)}, MOSI_SIZES),
        ),
        SyntheticConfig(
            name="tiny",
            description="For tests.",
            recipe=Recipe(TINY_SHAPES, TINY_SIZES),
        ),
        SyntheticConfig(
            name="mosi_aligned",
            description="As `mosi`, the three sequences of a segment of one length.",
            recipe=Recipe(
                {"text": (50, 64), "audio": (50, 5), "vision": (50, 20)}, MOSI_SIZES, aligned=True
            ),
        ),
        SyntheticConfig(
            name="iemocap",
            description="Four classes, utterances of a fold of IEMOCAP, narrower features.",
            recipe=Recipe(
                {"text": (22, 64), "audio": (60, 26), "vision": (50, 34)},
                {"train": 4446, "valid": 557, "test": 528},
                classes=4,
            ),
        ),
        SyntheticConfig(
            name="tiny_classes",
            description="For tests.",
            recipe=Recipe(TINY_SHAPES, TINY_SIZES, classes=4),
        ),
    ]
    DEFAULT_BUILDER_CONFIG_NAME = "mosi"

    @classmethod
    def config_named(cls, name: str) -> SyntheticConfig:
        """The config of a name that is a recipe, such as `train=500,text=30x16,classes=4`.

        Args:
            name: What differs from `mosi`, separated by commas: `train`, `valid`, `test`, `seed`,
                `classes` as numbers, `text`, `audio`, `vision` as `{steps}x{dim}`, and `aligned`.

        Raises:
            ValueError: the name is no recipe.
        """
        usual = cls.builder_configs[cls.DEFAULT_BUILDER_CONFIG_NAME].recipe
        numbers = {**usual.sizes, "seed": usual.seed, "classes": usual.classes}
        shapes, aligned = dict(usual.shapes), False
        for part in name.split(","):
            key, _, value = part.partition("=")
            if key in numbers and re.fullmatch(r"\d{1,9}", value):
                numbers[key] = int(value)
            elif key in shapes and re.fullmatch(r"\d{1,6}x\d{1,6}", value):
                steps, _, dim = value.partition("x")
                shapes[key] = int(steps), int(dim)
            elif part == "aligned":
                aligned = True
            else:
                raise ValueError(
                    "`config` of synthetic_msa must be one of "
                    f"{sorted(cls.builder_configs)}, or a recipe such as "
                    f"'train=500,text=30x16,classes=4,aligned'. Received: {part!r} in {name!r}."
                )
        sizes = {split: numbers.pop(split) for split in SPLITS}
        recipe = Recipe(shapes, sizes, aligned=aligned, **numbers)
        return SyntheticConfig(name=name, description="Of sizes asked for.", recipe=recipe)

    def _info(self) -> Any:
        recipe = self.builder_config.recipe
        label: Any = np.float32
        if recipe.classes:
            label = tfds.features.ClassLabel(num_classes=recipe.classes)
        return self.dataset_info_from_configs(
            features=spec(recipe.shapes, with_text_bert=False, label=label),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        recipe = self.builder_config.recipe
        size = recipe.sizes[split]
        for row in range(size):
            video = row * min(VIDEOS[split], size) // size
            made = segment(recipe, split, row)
            lengths = {f"{name}_length": length for name, length in made.lengths.items()}
            example = {
                "id": f"{split}{video:02d}$_${row}",
                "raw_text": f"generated segment {row}",
                "label": made.label,
                "index": row,
            }
            yield row, {**made.features, **lengths, **example}
