import os
import signal
import threading

import pytest

from segstream.model.training.trainer import Stopped, StopRequest
from segstream.shards.errors import DataError
from tests.model.toy import run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_noted_and_the_handlers_come_back(number):
    before = signal.getsignal(number)
    with StopRequest() as stopping:
        assert not stopping.asked
        os.kill(os.getpid(), number)
        assert stopping.asked
    assert signal.getsignal(number) is before


def test_it_is_deaf_in_other_threads():
    asked = []

    def work():
        with StopRequest() as stopping:
            asked.append(stopping.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert asked == [False]


def test_a_run_told_to_stop_keeps_every_step_it_made(tmp_path):
    def on_log(row):
        if row.step == 2:
            os.kill(os.getpid(), signal.SIGUSR1)

    with pytest.raises(Stopped, match=r"told to stop, 2 of 8 steps are kept; the same command goes on") as stopped:
        run(str(tmp_path), on_log=on_log, checkpoint_every=5)
    assert isinstance(stopped.value, DataError)
    assert stopped.value.exit_code == 75
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002.pt"]
    notes = []
    run(str(tmp_path), on_note=notes.append)
    assert notes == [f"going on from {tmp_path}/checkpoints/step-00000002.pt at step 2 of 8"]
