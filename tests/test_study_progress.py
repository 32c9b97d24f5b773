"""Progress of a study: lines of runs that ended, and what is read for them."""

import pytest

from keras_m3s.cli import study_progress
from keras_m3s.study.plan import PlannedRun
from keras_m3s.study.workspace import DONE, FAILED, PENDING, STARTED, RunState, Workspace
from tests.small import small

pytestmark = pytest.mark.once


def test_each_run_is_said_once_and_read_until_it_is_done(tmp_path, monkeypatch, capsys):
    planned = [PlannedRun(small("misa", "orig", seed=seed)) for seed in range(3)]
    keys = [one.experiment.key for one in planned]
    status = dict(zip(keys, (DONE, STARTED, PENDING), strict=True))
    read = []

    def run_states(asked, workspace):
        read.append([one.experiment.key for one in asked])
        return {key: RunState(status[key], 1) for key in read[-1]}

    monkeypatch.setattr(study_progress, "run_states", run_states)
    monkeypatch.setattr(study_progress, "INTERVAL", 3600.0)
    with study_progress.StudyProgress(planned, Workspace(str(tmp_path), None, None, ""), 1) as said:
        assert capsys.readouterr().out == "1 runs are already done\n"
        status[keys[1]] = FAILED
        said._print()
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith(f"2/3  failed  {keys[1]}  about ")
        status[keys[1]] = status[keys[2]] = DONE  # a failed run may be tried again
        said._print()
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith(f"3/3  done  {keys[2]}  about ")
    assert capsys.readouterr().out == ""
    assert read == [keys, keys[1:], keys[1:], []]
