"""`keras-m3s features`: a folder of clips to features."""

import pathlib
from typing import Any

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=pathlib.Path))
@click.option("--out", type=click.Path(path_type=pathlib.Path), required=True, help="Where to write; a second run goes on there.")  # fmt: skip
@click.option("--bert", help="Text: a keras-hub preset of BERT or a local folder of one.")
@click.option("--audio/--no-audio", default=True, help="Audio: openSMILE's ComParE descriptors, ten frames a step.")  # fmt: skip
@click.option("--vision", help="'face_hog' (OpenCV), or 'module:name' of an extractor of yours.")
def features(
    folder: pathlib.Path, out: pathlib.Path, bert: str | None, audio: bool, vision: str | None
) -> None:
    """Extract features from the clips of FOLDER, which label.csv lists.

    label.csv has the columns video_id, clip_id, text, label, mode; a clip is
    FOLDER/video_id/clip_id.mp4 (.wav, ...). A clip that fails is left out.

    \b
    Example:
      keras-m3s features clips --out features --bert bert_base_en_uncased
      keras-m3s prepare --from features/features.pkl --name mine
    """
    from keras_m3s import features as library

    extractors: dict[str, Any] = {}
    if audio:
        extractors["audio"] = library.ComParE()
    if vision:
        extractors["vision"] = (
            library.FaceHOG() if vision == "face_hog" else library.load_hook(vision)
        )
    if bert:
        extractors["text"] = library.BertText(bert)

    def progress(clip: Any, failure: str | None) -> None:
        if failure:
            click.echo(f"left out {clip.id}: {failure}", err=True)

    report = library.extract(folder, out, extractors, progress)
    click.echo(f"{report.done} clips, {len(report.failed)} left out; {report.computed} sequences computed now")  # fmt: skip
    if report.file is None:
        raise click.ClickException("A split (mode) has no clip: no features.pkl was written.")
    click.echo(
        f"{report.file}\n\nGo on with:\n  keras-m3s prepare --from {report.file} --name NAME"
    )
