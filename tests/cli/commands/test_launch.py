"""The command that writes job scripts: which values it refuses, and where the script goes."""

import pytest
from typer.testing import CliRunner

from segstream.cli.commands.launch import app as launch
from segstream.cli.commands.launch import job_name
from tests.cli.jobs.test_scripts import words_after_train

BAD = {
    "no nodes": (["slurm", "union-universal", "--nodes", "0"], "--nodes: '0'; expected a number, or MIN:MAX"),
    "nodes the wrong way": (["slurm", "union-universal", "--nodes", "4:2"], "the least is above the most"),
    "processes": (["slurm", "union-universal", "--nodes", "1:4", "--gpus-per-node", "8"], "32 processes, but a batch"),
    "time": (["slurm", "union-universal", "--time", "tomorrow"], "--time: 'tomorrow'; expected MINUTES"),
    "partition": (["slurm", "union-universal", "--partition", "a\n#SBATCH -x"], "--partition: "),
    "name": (["slurm", "union-universal", "--name", "My Job"], "--name: 'My Job'; expected small letters"),
    "port": (["torchrun", "union-universal", "--host", "a", "--port", "80"], "--port: 80; must be from 1024"),
    "host": (["torchrun", "union-universal", "--host", "a;b"], "--host: 'a;b'; expected a host name"),
    "recipe": (["slurm", "union-univresal"], "did you mean 'union-universal'"),
    "override": (["slurm", "union-universal", "train.stepz=1"], "did you mean 'steps'"),
    "grace": (["slurm", "union-universal", "--grace", "1"], "--grace: 1; must be from 10"),
    "log": (["slurm", "union-universal", "--log", "a b"], "--log: 'a b'; expected a path without blanks"),
    "line break": (["slurm", "union-universal", "name=a\nNODE\nid"], "a job script cannot carry"),
    "image": (["kubernetes", "union-universal", "--image", "a b"], "--image: 'a b'; expected the name of an image"),
    "memory": (["kubernetes", "union-universal", "--image", "a", "--memory", "much"], "--memory: 'much'; expected a q"),
    "claim": (["kubernetes", "union-universal", "--image", "a", "--claim", "A/B"], "--claim: 'A/B'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values_are_refused_by_name(case):
    arguments, message = BAD[case]
    done = CliRunner().invoke(launch, arguments)
    assert done.stdout == ""
    assert message in str(done.exception)


def test_a_script_is_printed_or_written_with_the_line_that_starts_it(tmp_path):
    asked = ["slurm", "union-universal", "seed=3", "--gpus-per-node", "2"]
    printed = CliRunner().invoke(launch, asked)
    assert printed.exit_code == 0
    assert words_after_train(printed.stdout) == ["union-universal", "seed=3"]
    assert "--nproc-per-node=2 " in printed.stdout
    file = tmp_path / "job.sh"
    written = CliRunner().invoke(launch, [*asked, "--out", str(file)])
    assert f"sbatch {file}" in written.stderr
    assert file.read_text() == printed.stdout


def test_names_of_jobs_are_made_of_recipes():
    assert job_name("recipes/My_Run 2.yaml") == "my-run-2"
    assert job_name("mseg-relabeled-3m-1080p") == "mseg-relabeled-3m-1080p"
    assert job_name("___") == "segstream"
    assert len(job_name("x" * 99)) == 42
