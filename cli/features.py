"""`keras-m3s features`: a folder of clips to features."""

import pathlib
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from keras_m3s.features import Clip, Extractor


@click.command()
@click.argument("folder", type=click.Path(path_type=pathlib.Path))
@click.option("--output", "--out", type=click.Path(path_type=pathlib.Path), required=True, help="Folder to write; a second run continues there.")  # fmt: skip
@click.option("--bert", help="Text: a keras-hub preset of BERT or a local folder of one.")
@click.option("--audio/--no-audio", default=True, help="Audio: openSMILE's ComParE descriptors, ten frames a step.")  # fmt: skip
@click.option("--vision", help="'face_hog' (OpenCV), or 'module:name' of an extractor of yours, in the current folder or installed.")  # fmt: skip
def features(
    folder: pathlib.Path, output: pathlib.Path, bert: str | None, audio: bool, vision: str | None
) -> None:
    """Extract features from the clips of FOLDER, which label.csv lists.

    label.csv has the columns video_id, clip_id, text, label, mode; a clip is
    FOLDER/video_id/clip_id.mp4 (.wav, ...). A clip that fails is left out.

    \b
    Example:
      keras-m3s features clips --output features --bert bert_base_en_uncased
      keras-m3s prepare --from features/features.pkl --name mine
    """
    from keras_m3s import features as library

    extractors: dict[str, Extractor] = {}
    if audio:
        extractors["audio"] = library.ComParE()
    if vision:
        own = vision != "face_hog"
        extractors["vision"] = library.load_hook(vision) if own else library.FaceHOG()
    if bert:
        extractors["text"] = library.BertText(bert)

    def progress(clip: "Clip", failure: str | None) -> None:
        if failure:
            click.echo(f"left out {clip.id}: {failure}", err=True)

    summary = library.extract(folder, output, extractors, progress)
    click.echo(f"{summary.done} clips, {len(summary.failed)} left out; {summary.computed} sequences computed now")  # fmt: skip
    if summary.file is None:
        raise click.ClickException("A split (mode) has no clip: no features.pkl was written.")
    click.echo(
        f"{summary.file}\n\nGo on with:\n  keras-m3s prepare --from {summary.file} --name NAME"
    )
