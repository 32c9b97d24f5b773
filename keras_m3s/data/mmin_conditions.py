"""MMIN's test protocol: each utterance under six conditions, each missing whole modalities.

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
"""Condition -> 1 for each modality that is present, in the order of `MODALITIES`."""


def whole_modality(split: Split) -> Split:
    """Repeats every utterance under the six conditions; row i is utterance i // 6.

    Args:
        split: Validation or test data; the result takes six times its memory.

    Returns:
        A split with `missing_index` int32 `(6 n, 3)`. Missing features are 0, lengths are kept. Ids
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
    """Sizes of IEMOCAP's splits as in Table 1 of the M3S paper.

    A training utterance counts once, since each step draws one condition for it; validation and
    test utterances count once per condition.

    Args:
        sizes: Split -> number of utterances.

    Returns:
        Split -> number of items: 4446, 557 and 528 utterances give 4446, 3342 and 3168.
    """
    times = {"train": 1, "valid": len(CONDITIONS), "test": len(CONDITIONS)}
    return {split: size * times[split] for split, size in sizes.items()}
