"""Readers of the folders of SP-SW-HAR and PhysioNet 2012."""

from typing import Any

from .. import files, gaps
from ..sp_sw_har import recordings
from .source import Source, command


class SpSwHarReader:
    """The repository of SP-SW-HAR, or its folder `DATA`."""

    def recognises(self, source: Source) -> bool:
        if not source.is_folder:
            return False
        places = (source.path, files.find(source.path, "DATA"))
        return any(recordings.NAME.fullmatch(path.name)
                   for place in places for path in place.glob("s[0-9][0-9]/*.csv"))  # fmt: skip

    def kind(self, source: Source) -> str:
        return "recordings of SP-SW-HAR, a smartphone and a smartwatch"

    def holds(self, source: Source) -> list[str]:
        found = recordings.find(source.path)
        return [f"{len(found)} recordings of {len({name[:3] for name in found})} subjects"]

    def commands(self, source: Source) -> list[str]:
        from ..sp_sw_har.sp_sw_har_dataset_builder import SpSwHar  # with TFDS, which takes a second

        return _commands(source, SpSwHar)


class Physionet2012Reader:
    """The folder with `set-a` and `Outcomes-a.txt`."""

    def recognises(self, source: Source) -> bool:
        if not source.is_folder:
            return False
        return (
            files.find(source.path, "set-a").is_dir()
            and files.find(source.path, "Outcomes-a.txt").is_file()
        )

    def kind(self, source: Source) -> str:
        return "stays in intensive care, set A of the PhysioNet challenge 2012"

    def holds(self, source: Source) -> list[str]:
        return [f"{len(list(files.find(source.path, 'set-a').glob('*.txt')))} records"]

    def commands(self, source: Source) -> list[str]:
        from ..physionet2012.physionet2012_dataset_builder import Physionet2012

        return _commands(source, Physionet2012)


def _commands(source: Source, builder: Any) -> list[str]:
    """Reads everything as the default config of the builder does."""
    default = builder.builder_configs[builder.DEFAULT_BUILDER_CONFIG_NAME]
    splits = builder.read(default, source.path)
    source.gaps = gaps.of([one.features for one in splits.values()], splits["train"].modalities)
    return [command(builder.name, source.path)]
