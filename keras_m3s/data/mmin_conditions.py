"""MMIN's protocol: every utterance is tested under six conditions, each without whole modalities.

Reference: AIM3-RUC/MMIN 69a45fe, data/multimodal_miss_dataset.py.
"""

from collections.abc import Mapping

import numpy as np

from keras_m3s.data.split import Split
from keras_m3s.missing.patterns import MMIN_CONDITIONS
from keras_m3s.modalities import INDEX, MISSING_INDEX, MODALITIES

CONDITIONS: dict[str, tuple[int, ...]] = {
    name: tuple(int(modality not in missing) for modality in MODALITIES)
    for name, missing in MMIN_CONDITIONS.items()
}
"""Which modalities are there, in the order of `MODALITIES`."""


def whole_modality(split: Split) -> Split:
    """Every utterance six times, whole modalities zero; item i is utterance i // 6.

    Args:
        split: Data for selection or testing; the result takes six times its memory.

    Returns:
        A split with `missing_index` int32 `(6 n, 3)`; missing features are 0, lengths stay. Names
        are `id/azz` and so on.
    """
    count, times = len(split), len(CONDITIONS)
    index = np.tile(np.array(list(CONDITIONS.values()), dtype=np.int32), (count, 1))
    features = {}
    for name, array in split.features.items():
        repeated = np.repeat(array, times, axis=0)
        if name in MODALITIES:
            repeated[index[:, MODALITIES.index(name)] == 0] = 0
        features[name] = repeated
    features[INDEX] = np.arange(count * times, dtype=np.int32)
    features[MISSING_INDEX] = index
    ids = [f"{name}/{condition}" for name in split.ids for condition in CONDITIONS]
    return Split(split.name, features, np.repeat(split.labels, times), ids)


def counted(sizes: Mapping[str, int]) -> dict[str, int]:
    """Items as Table 1 of the M3S paper counts them for IEMOCAP.

    Training draws one condition for an utterance each time, so each counts once; validation and
    test utterances count under all six.

    Args:
        sizes: Utterances a split.

    Returns:
        Items a split: 4446, 557 and 528 utterances give 4446, 3342 and 3168.
    """
    times = {"train": 1, "valid": len(CONDITIONS), "test": len(CONDITIONS)}
    return {split: size * times[split] for split, size in sizes.items()}
