"""openSMILE in a process of its own: reads a path per line, writes a header and float32 values.

A separate process, because openSMILE's library and TensorFlow corrupt each other's memory, and
because a file that crashes openSMILE must not end the extraction. The script is run by its path and
imports nothing of keras_m3s.
"""

import json
import os
import sys
from typing import Any

import numpy as np


def frames(smiles: list[Any], path: str) -> np.ndarray:
    """Descriptors and their deltas of a file, float32 `(frames, 130)`."""
    import audiofile

    signal, rate = audiofile.read(path, always_2d=True)
    tables = [smile.process_signal(signal.mean(axis=0), rate).to_numpy() for smile in smiles]
    count = min(map(len, tables))  # deltas have some frames more
    return np.concatenate([table[:count] for table in tables], axis=1).astype(np.float32)


def main() -> None:
    """Serves requests until stdin is closed."""
    responses = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # the library prints to stdout
    import opensmile

    levels = opensmile.FeatureLevel
    smiles = [
        opensmile.Smile(feature_set=opensmile.FeatureSet.ComParE_2016, feature_level=level)
        for level in (levels.LowLevelDescriptors, levels.LowLevelDescriptors_Deltas)
    ]
    for line in sys.stdin:
        body = b""
        try:
            table = frames(smiles, json.loads(line))
            header: dict[str, Any] = {"shape": table.shape}
            body = table.tobytes()
        except Exception as error:  # raised again by the process that asked
            header = {"error": f"{type(error).__name__}: {error}"}
        responses.write(json.dumps(header).encode() + b"\n" + body)
        responses.flush()


if __name__ == "__main__":
    main()
