"""Features from clips: audio by openSMILE, text by a BERT, vision by OpenCV, or your own.

    extractors = {"audio": ComParE(), "text": BertText("bert_base_en"), "vision": FaceHOG()}
    summary = extract("clips/", "features/", extractors)

An extractor is any object with a `name`, a string that says what it computes, that turns a `Clip`
into float32 `(steps, dim)` when called. `load_hook("my_module:MyExtractor")` imports yours.
"""

from keras_m3s.features.audio import ComParE
from keras_m3s.features.clips import Clip, read_clips
from keras_m3s.features.extract import ExtractionSummary, extract
from keras_m3s.features.extractor import Extractor, HookError, load_hook
from keras_m3s.features.text import BertText
from keras_m3s.features.vision import FaceHOG

__all__ = [
    "BertText",
    "Clip",
    "ComParE",
    "ExtractionSummary",
    "Extractor",
    "FaceHOG",
    "HookError",
    "extract",
    "load_hook",
    "read_clips",
]
