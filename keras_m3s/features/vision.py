"""Vision: a hook for whatever you use, and one implementation by OpenCV that needs no weights.

The field's features (OpenFace's action units, FACET, DenseFace) come from programs and weights that
no package brings. Your own extractor is a class in a module of yours:

    class Units:
        name = "action units of OpenFace 2.2"
        def __call__(self, clip):            # a `Clip`; clip.file is its path
            return table                     # float32 (steps, dim), zeros where there is no face

and then `--vision my_module:Units`, or `extract(..., {"vision": Units()})`.
"""

import importlib
import pathlib
from typing import Any

import numpy as np

from keras_m3s.features.clips import Clip

SIZE, CELL, BINS = 64, 8, 9


class FaceHOG:
    """Histograms of oriented gradients of the largest face in each frame, zeros without a face.

    The face is found by OpenCV's frontal Haar cascade, cut out and brought to 64 x 64.

    Args:
        rate: Frames a second to look at, at most.

    Raises:
        ImportError: OpenCV is not installed, or is of version 5, which has lost both parts.

    Reference: Dalal, Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR 2005.
    """

    dim = (SIZE // (2 * CELL)) ** 2 * 4 * BINS

    def __init__(self, rate: float = 10.0) -> None:
        try:
            import cv2

            folder = pathlib.Path(cv2.__file__).parent / "data"
            cascade = str(folder / "haarcascade_frontalface_default.xml")
            self._finder: Any = cv2.CascadeClassifier(cascade)
            block = (2 * CELL, 2 * CELL)
            self._hog: Any = cv2.HOGDescriptor((SIZE, SIZE), block, block, (CELL, CELL), BINS)
        except (ImportError, AttributeError) as error:
            raise ImportError(
                "Vision features need OpenCV 4: pip install 'keras-m3s[features]'."
            ) from error
        if rate <= 0:
            raise ValueError(f"`rate` must be > 0. Received: {rate}.")
        self.rate = rate
        self.name = f"HOG of the largest face, {rate:g} frames a second"

    def __call__(self, clip: Clip) -> np.ndarray:
        """Float32 `(frames, 576)`."""
        import cv2

        video = cv2.VideoCapture(str(clip.file))
        try:
            every = max(1.0, (video.get(cv2.CAP_PROP_FPS) or self.rate) / self.rate)
            rows: list[np.ndarray] = []
            number = 0
            while True:
                there, frame = video.read()
                if not there:
                    break
                if number >= len(rows) * every:
                    rows.append(self.of_frame(frame))
                number += 1
        finally:
            video.release()
        if not rows:
            raise ValueError(f"{clip.file.name} must have video frames. Received: none.")
        return np.stack(rows)

    def of_frame(self, frame: np.ndarray) -> np.ndarray:
        """Float32 `(576,)` of an image uint8 `(height, width, 3)`, blue first."""
        import cv2

        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        faces = self._finder.detectMultiScale(grey, 1.1, 5)
        if not len(faces):
            return np.zeros(self.dim, dtype=np.float32)
        x, y, width, height = max(faces, key=lambda face: int(face[2]) * int(face[3]))
        return self.of_face(grey[y : y + height, x : x + width])

    def of_face(self, face: np.ndarray) -> np.ndarray:
        """Float32 `(576,)` of a face, grey uint8 `(height, width)`."""
        import cv2

        return np.asarray(self._hog.compute(cv2.resize(face, (SIZE, SIZE))), np.float32).reshape(-1)


def load_hook(place: str) -> Any:
    """An extractor of the user's own.

    Args:
        place: `module:name` of a class without arguments, or of an extractor.

    Raises:
        ValueError: that is not what is there.
    """
    module, _, name = place.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"A hook must be 'module:name' of something that can be imported. Received: {place!r} "
            f"({error})."
        ) from error
    hook = found() if isinstance(found, type) else found
    if not callable(hook) or not isinstance(getattr(hook, "name", None), str):
        raise ValueError(
            "A hook must be callable with a clip and have a `name`, a string. "
            f"Received: {place!r}, {type(hook).__name__}."
        )
    return hook
