"""Vision features: HOG of the face by OpenCV, which needs no weights, or an extractor of yours.

The usual features (action units of OpenFace, FACET, DenseFace) come from programs and weights that
no Python package installs. Your own extractor is a class in a module of yours:

    class Units:
        name = "action units of OpenFace 2.2"
        def __call__(self, clip):            # a `Clip`; clip.file is its path
            return table                     # float32 (steps, dim), zeros where there is no face

Pass it as `--vision my_module:Units`, with `my_module.py` in the current folder or installed, or
from Python as `extract(..., {"vision": Units()})`.
"""

import pathlib
from typing import Any

import numpy as np

from keras_m3s.features.clips import Clip

SIZE, CELL, BINS = 64, 8, 9


class FaceHOG:
    """Histograms of oriented gradients of the largest face per frame; zeros without a face.

    OpenCV's frontal Haar cascade finds the face, which is cropped and resized to 64 x 64.

    Args:
        rate: Largest number of frames per second to use.

    Raises:
        ImportError: OpenCV 4 is not installed. OpenCV 5 lacks both parts.

    Reference: Dalal, Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR 2005.
    """

    dim = (SIZE // (2 * CELL)) ** 2 * 4 * BINS

    def __init__(self, rate: float = 10.0) -> None:
        try:
            import cv2

            folder = pathlib.Path(cv2.__file__).parent / "data"
            cascade = str(folder / "haarcascade_frontalface_default.xml")
            self._detector: Any = cv2.CascadeClassifier(cascade)
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
        """Features of a clip's frames, float32 `(frames, 576)`."""
        import cv2

        video = cv2.VideoCapture(str(clip.file))
        try:
            every = max(1.0, (video.get(cv2.CAP_PROP_FPS) or self.rate) / self.rate)
            rows: list[np.ndarray] = []
            number = 0
            while True:
                success, frame = video.read()
                if not success:
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
        """Features of an image, uint8 `(height, width, 3)` in BGR: float32 `(576,)`."""
        import cv2

        gray = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        faces = self._detector.detectMultiScale(gray, 1.1, 5)
        if not len(faces):
            return np.zeros(self.dim, dtype=np.float32)
        x, y, width, height = max(faces, key=lambda face: int(face[2]) * int(face[3]))
        return self.of_face(gray[y : y + height, x : x + width])

    def of_face(self, face: np.ndarray) -> np.ndarray:
        """Features of a face in gray, uint8 `(height, width)`: float32 `(576,)`."""
        import cv2

        return np.asarray(self._hog.compute(cv2.resize(face, (SIZE, SIZE))), np.float32).reshape(-1)
