"""Runs of two processes that are killed at random moments and end in the weights of the undisturbed run."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from segstream.model.checkpoint import load_checkpoint, load_final
from tests.model.processes import free_port, start_torchrun, start_toys, together
from tests.model.toy import StopError, run

WAYS = ("kill one", "terminate one", "kill all", "terminate all")
EVERY = 4
FEW = 80  # steps


def _calm(group, folder, steps):
    run(folder, group=group, steps=steps, checkpoint_every=EVERY)


def latest(folder):
    return max((path.name for path in folder.glob("checkpoints/step-*.pt")), default="")


def wait_for_news(folder, processes):
    """Until the run is among its steps: another checkpoint than now, or an end."""
    before = latest(folder)
    while latest(folder) == before and all(process.poll() is None for process in processes):
        time.sleep(0.002)


def disturb(processes, way, rng):
    """Send signals; the exit codes."""
    number = signal.SIGKILL if way.startswith("kill") else signal.SIGTERM
    for process in processes if way.endswith("all") else [rng.choice(processes)]:
        process.send_signal(number)
    return [process.wait(timeout=120) for process in processes]


def check_codes(codes, way):
    """Whether it was disturbed at all; the run may have been over before."""
    if codes == [0, 0]:
        return False
    if way.startswith("terminate"):
        assert codes == [75, 75]
    elif way == "kill all":
        assert -signal.SIGKILL in codes
    else:
        assert sorted(codes) in ([-signal.SIGKILL, 0], [-signal.SIGKILL, 1])  # the other notices, and fails
    return True


def assert_same(run, other):
    """The same bits in both runs' last files."""
    torch.testing.assert_close(*(load_final(f / "final.pt").weights for f in (run, other)), rtol=0, atol=0)


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """By number of steps, the folder of a run that nobody disturbed."""
    made = {}

    def of(steps):
        if steps not in made:
            made[steps] = tmp_path_factory.mktemp(f"calm-{steps}")
            together(_calm, str(made[steps]), steps)
        return made[steps]

    return of


@pytest.mark.parametrize(
    "kills", [2, pytest.param(30, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])], ids=["few", "soak"]
)
def test_however_often_it_is_killed_it_ends_in_the_same_bits(tmp_path, calm, kills):
    steps = FEW if kills == 2 else 1200
    disturbed, rng = tmp_path / "disturbed", random.Random(kills)
    arguments, hit, tried = [str(disturbed), str(steps), str(EVERY)], 0, 0
    while hit < kills and not (disturbed / "final.pt").exists():
        way = WAYS[tried % len(WAYS)]
        tried += 1
        processes = start_toys(arguments)
        wait_for_news(disturbed, processes)
        time.sleep(rng.random() * 0.1)
        hit += check_codes(disturb(processes, way, rng), way)
        print(f"{way}: {latest(disturbed)}", flush=True)
    assert hit >= 2, "the run finished before it could be killed: make it longer"
    for process in start_toys(arguments):
        assert process.wait(timeout=600) == 0
    assert_same(calm(steps), disturbed)


def test_torchrun_starts_again_after_the_death_of_one_process(tmp_path, calm):
    disturbed = tmp_path / "disturbed"
    agent = start_torchrun([str(disturbed), str(FEW), str(EVERY)], restarts=1)
    wait_for_news(disturbed, [agent])
    os.kill(int((disturbed / "1.pid").read_text()), signal.SIGKILL)
    assert agent.wait(timeout=200) == 0
    assert_same(calm(FEW), disturbed)


@pytest.mark.soak
def test_the_machines_that_are_left_go_on(tmp_path):
    """Two agents stand for two machines; the second is lost with its process."""
    folder, port = tmp_path / "run", free_port()
    arguments = [str(folder), "300", str(EVERY)]
    first = start_torchrun(arguments, restarts=5, nodes="1:2", per_node=1, port=port)
    time.sleep(1)  # the first agent holds the meeting point
    second = start_torchrun(arguments, restarts=5, nodes="1:2", per_node=1, port=port)
    while not (folder / "1.pid").exists():
        time.sleep(0.1)
    wait_for_news(folder, [first, second])
    lost = int((folder / "1.pid").read_text())
    kept = int((folder / "0.pid").read_text())
    mine = first if kept in children(first.pid) else second
    assert mine is first, "rank 0 is on the machine of the meeting point"
    second.kill()
    os.kill(lost, signal.SIGKILL)
    assert first.wait(timeout=300) == 0
    assert load_final(folder / "final.pt").step == 300


def children(pid):
    return [int(number) for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_fewer_processes_go_on_with_the_same_batches(tmp_path):
    """As after the loss of a machine: what two began, one ends; batch norms alone see other parts of a batch."""
    together(_part, str(tmp_path))
    rows = []
    final = run(str(tmp_path / "run"), on_log=rows.append)
    assert (load_final(final).step, [row.step for row in rows]) == (8, [8])
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "step-00000006.pt").step == 6


def _part(group, folder):
    def on_validate(net, done):
        if done == 7:
            raise StopError

    with pytest.raises(StopError):
        run(f"{folder}/run", group=group, validate_every=1, on_validate=on_validate)
