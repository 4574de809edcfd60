"""Job scripts: what they hold, that a shell and a YAML reader take them, and which values are refused."""

import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from segstream.cli.commands.launch import app as launch
from segstream.cli.jobs.kubernetes import Kubernetes, kubernetes_manifest
from segstream.cli.jobs.scripts import Run, job_name, node_script, torchrun_line
from segstream.cli.jobs.slurm import Slurm, slurm_script
from segstream.model.training.trainer import Stopped
from segstream.shards.errors import UsageError

AWKWARD = ("union-universal", "data.shards=s3://a bucket/it's $(id) `id` $$ $HOME", "--run", "/data/a b")
RUN = Run(name="job", train=AWKWARD, nodes="2", processes=4)
SCRIPTS = {
    "slurm": slurm_script(RUN, Slurm(gpus=4, time="1-12", partition="gpu", account="me", cpus=32)),
    "slurm without anything": slurm_script(Run(name="job", train=("x",)), Slurm(gpus=0)),
    "node": node_script(RUN, host="a", run_id="b", index='"$INDEX"', forward=True),
    "torchrun": torchrun_line(RUN, "node-1.cluster"),
}


def words_after_train(script: str) -> list[str]:
    """The arguments that a shell would give to `segstream train`."""
    (line,) = [line for line in script.splitlines() if line.startswith("torchrun ")]
    shown = subprocess.run(
        ["bash", "-c", "torchrun() { printf '%s\\0' \"$@\"; }\n" + line.removesuffix("&")],
        capture_output=True,
        text=True,
        check=True,
        env={"MASTER": "m", "SLURM_JOB_ID": "7", "is_host": "1", "PATH": "/usr/bin:/bin"},
    ).stdout.split("\0")[:-1]
    at = shown.index("train")
    assert shown[at - 3 : at] == ["--no-python", "--", "segstream"]
    return shown[at + 1 :]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_shell_takes_it(name: str) -> None:
    done = subprocess.run(["bash", "-n"], input=SCRIPTS[name], text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck_finds_nothing(name: str) -> None:
    done = subprocess.run(
        ["shellcheck", "--shell=bash", "--severity=warning", "-"],
        input=SCRIPTS[name],
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["slurm", "node", "torchrun"])
def test_arguments_reach_train_as_they_were_given(name: str) -> None:
    assert words_after_train(SCRIPTS[name]) == list(AWKWARD)


def test_what_sbatch_is_asked_for() -> None:
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", SCRIPTS["slurm"], flags=re.MULTILINE))
    assert asked == {
        "job-name": "job",
        "nodes": "2",
        "ntasks-per-node": "1",
        "gpus-per-node": "4",
        "cpus-per-task": "32",
        "time": "1-12",
        "partition": "gpu",
        "account": "me",
        "output": "%x-%j.log",
        "open-mode": "append",
        "signal": "B:USR1@180",
        "requeue": "",
    }
    assert "gpus-per-node" not in SCRIPTS["slurm without anything"]
    assert "#SBATCH --nodes=2-4\n" in slurm_script(Run(name="job", train=("x",), nodes="2:4"), Slurm(gpus=1))


def manifest(**asked: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    text = kubernetes_manifest(RUN, Kubernetes(**{"image": "registry:5000/segstream@sha256:0a", "gpus": 4} | asked))
    service, job = yaml.safe_load_all(text)
    return service, job


def test_pods_of_a_manifest_find_the_first_and_are_started_again_when_they_stopped() -> None:
    service, job = manifest(namespace="vision", claim="data", cpus="16", memory="64Gi", secret="store")
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    (train,) = pod["containers"]
    assert (service["kind"], service["spec"]["clusterIP"], service["metadata"]["namespace"]) == (
        "Service",
        "None",
        "vision",
    )
    assert service["spec"]["selector"] == job["spec"]["template"]["metadata"]["labels"]
    assert pod["subdomain"] == service["metadata"]["name"] == job["metadata"]["name"] == "job"
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2)
    assert "--rdzv-endpoint=job-0.job:29400 " in train["command"][-1]
    rules = spec["podFailurePolicy"]["rules"]
    assert rules[0] == {
        "action": "Ignore",
        "onExitCodes": {"containerName": train["name"], "operator": "In", "values": [Stopped.exit_code]},
    }
    assert rules[1]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert pod["restartPolicy"] == "Never"  # a failure policy allows no other
    assert pod["terminationGracePeriodSeconds"] > RUN.grace_s
    assert train["resources"]["limits"] == {"cpu": "16", "memory": "64Gi", "nvidia.com/gpu": "4"}
    assert train["envFrom"] == [{"secretRef": {"name": "store"}}]
    assert {m["name"]: m["mountPath"] for m in train["volumeMounts"]} == {"shm": "/dev/shm", "data": "/data"}
    assert pod["volumes"][0]["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Gi"}


def test_kubernetes_replaces_nothing_in_the_command() -> None:
    """It turns `$$` into `$` and `$(NAME)` into a variable's value, as its reference says of `command`."""
    command = manifest()[1]["spec"]["template"]["spec"]["containers"][0]["command"][-1]
    seen = re.sub(r"\$\$|\$\(id\)", lambda found: "$" if found[0] == "$$" else "REPLACED", command)
    assert words_after_train(seen) == list(AWKWARD)


def test_without_claim_secret_or_gpu_nothing_of_them_is_asked() -> None:
    text = kubernetes_manifest(Run(name="job", train=("x",)), Kubernetes(image="a", gpus=0))
    assert not re.search(r"nvidia|persistentVolumeClaim|secretRef|namespace|workingDir", text)


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
    "line break": (["slurm", "union-universal", "name=a\nNODE\nid"], "a job script cannot carry"),
    "image": (["kubernetes", "union-universal", "--image", "a b"], "--image: 'a b'; expected the name of an image"),
    "memory": (["kubernetes", "union-universal", "--image", "a", "--memory", "much"], "--memory: 'much'; expected a q"),
    "claim": (["kubernetes", "union-universal", "--image", "a", "--claim", "A/B"], "--claim: 'A/B'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values_are_refused_by_name(case: str) -> None:
    arguments, message = BAD[case]
    done = CliRunner().invoke(launch, arguments)
    assert done.stdout == ""
    assert message in str(done.exception)


def test_a_script_is_printed_or_written_with_the_line_that_starts_it(tmp_path: Path) -> None:
    asked = ["slurm", "union-universal", "seed=3", "--gpus-per-node", "2"]
    printed = CliRunner().invoke(launch, asked)
    assert printed.exit_code == 0
    assert words_after_train(printed.stdout) == ["union-universal", "seed=3"]
    assert "--nproc-per-node=2 " in printed.stdout
    file = tmp_path / "job.sh"
    written = CliRunner().invoke(
        launch, ["slurm", "union-universal", "seed=3", "--gpus-per-node", "2", "--out", str(file)]
    )
    assert f"sbatch {file}" in written.stderr
    assert file.read_text() == printed.stdout
    assert shlex.split(torchrun_line(RUN, "a"))[0] == "torchrun"


WORKERS = {  # what torchrun does: it ends with 1 whatever its workers' codes were
    "finish": "exit 0",
    "fail": "exit 1",
    "stop": 'trap \'touch "$SEGSTREAM_STOPPED"; exit 1\' TERM; touch "$READY"; while :; do sleep 0.05; done',
    "are told too late": 'trap "exit 1" TERM; touch "$READY"; while :; do sleep 0.05; done',
    "finish when told": 'trap "exit 0" TERM; touch "$READY"; while :; do sleep 0.05; done',
}


@pytest.mark.parametrize(
    ("workers", "code"),
    [("finish", 0), ("fail", 1), ("stop", 75), ("are told too late", 1), ("finish when told", 0)],
)
def test_the_first_process_of_a_container_passes_term_on_and_ends_as_the_run_did(
    workers: str, code: int, tmp_path: Path
) -> None:
    (tmp_path / "torchrun").write_text(f"#!/bin/bash\n{WORKERS[workers]}\n")
    (tmp_path / "torchrun").chmod(0o755)
    ready = tmp_path / "ready"
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "INDEX": "0", "READY": str(ready), "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(["bash", "-c", SCRIPTS["node"]], env=environment)
    while process.poll() is None and not ready.exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == code
    assert not list(tmp_path.glob("segstream-stopped-*"))


def test_names_of_jobs_are_made_of_recipes() -> None:
    assert job_name("recipes/My_Run 2.yaml") == "my-run-2"
    assert job_name("mseg-relabeled-3m-1080p") == "mseg-relabeled-3m-1080p"
    assert job_name("___") == "segstream"
    assert len(job_name("x" * 99)) == 42


def test_the_scripts_and_the_trainer_mean_the_same_exit_code() -> None:
    assert f'"$code" -eq {Stopped.exit_code} ]' in SCRIPTS["slurm"]
    with pytest.raises(UsageError, match="--grace: 1; must be from 10"):
        Run(name="job", train=("x",), grace_s=1)
