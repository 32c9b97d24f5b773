"""The process in which openSMILE runs: a path a line on stdin, a header and float32 on stdout.

Alone, because openSMILE's library and TensorFlow corrupt each other's memory in one process, and
because a file that brings it down must not take the other clips along. Run by file name, it
imports nothing of keras_m3s.
"""

import json
import os
import sys
from typing import Any

import numpy as np


def frames(smiles: list[Any], path: str) -> np.ndarray:
    """Float32 `(frames, 130)`: descriptors, then their deltas."""
    import audiofile

    signal, rate = audiofile.read(path, always_2d=True)
    tables = [smile.process_signal(signal.mean(axis=0), rate).to_numpy() for smile in smiles]
    count = min(map(len, tables))  # deltas look ahead, and have some frames more
    return np.concatenate([table[:count] for table in tables], axis=1).astype(np.float32)


def main() -> None:
    """Answers until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever the library prints is no answer
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
        except Exception as error:  # of any of the libraries: it goes to whoever asked
            header = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(header).encode() + b"\n" + body)
        answers.flush()


if __name__ == "__main__":
    main()
