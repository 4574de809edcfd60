"""Job scripts: what they hold, and that a shell and a YAML reader take them."""

import re
import signal
import subprocess
import time

import pytest
import yaml

from segstream.cli.jobs.scripts import Job, kubernetes_manifest, slurm_script
from segstream.model.training.trainer import Stopped

AWKWARD = ("union-universal", "data.shards=s3://a bucket/it's $(id) `id` $$ $HOME", "--run", "/data/a b")
NOTHING = dict.fromkeys(("gpus", "cpus", "time", "partition", "account"), None) | {"log": "%x-%j.log"}


def job(**given):
    """A job of one machine and process but for what is given."""
    few = {"name": "job", "train": ("x",), "nodes": "1", "processes": 1, "port": 29400, "max_restarts": 3}
    return Job(**({"grace_s": 120} | few | given))


JOB = job(train=AWKWARD, nodes="2", processes=4)
SCRIPTS = {
    "slurm": slurm_script(JOB, gpus=4, time="1-12", partition="gpu", account="me", cpus=32, log="%x-%j.log"),
    "slurm without anything": slurm_script(job(), **NOTHING),
    "node": JOB.node_script(host="a", run_id="b", index='"$INDEX"', forward=True),
    "torchrun": JOB.torchrun(host="node-1.cluster", run_id="job"),
}


def words_after_train(script):
    """The arguments that a shell would give to `segstream train`."""
    (line,) = [line for line in script.splitlines() if line.startswith("torchrun ")]
    stand_in = "torchrun() { printf '%s\\0' \"$@\"; }\n"
    env = {"MASTER": "m", "SLURM_JOB_ID": "7", "is_host": "1", "PATH": "/usr/bin:/bin"}
    command = ["bash", "-c", stand_in + line.removesuffix("&")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout.split("\0")[:-1]
    at = shown.index("train")
    assert shown[at - 3 : at] == ["--no-python", "--", "segstream"]
    return shown[at + 1 :]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_shell_takes_it(name):
    done = subprocess.run(["bash", "-n"], input=SCRIPTS[name], text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["slurm", "node", "torchrun"])
def test_arguments_reach_train_as_they_were_given(name):
    assert words_after_train(SCRIPTS[name]) == list(AWKWARD)


def test_what_sbatch_is_asked_for():
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", SCRIPTS["slurm"], flags=re.MULTILINE))
    assert asked == {
        **{"job-name": "job", "nodes": "2", "ntasks-per-node": "1", "gpus-per-node": "4", "cpus-per-task": "32"},
        **{"time": "1-12", "partition": "gpu", "account": "me", "output": "%x-%j.log", "open-mode": "append"},
        **{"signal": "B:USR1@180", "requeue": ""},
    }
    assert f'"$code" -eq {Stopped.exit_code} ]' in SCRIPTS["slurm"]  # as the trainer means it
    assert "gpus-per-node" not in SCRIPTS["slurm without anything"]
    assert "#SBATCH --nodes=2-4\n" in slurm_script(job(nodes="2:4"), **NOTHING)


def manifest(job=JOB, **asked):
    nothing = dict.fromkeys(("gpus", "namespace", "claim", "cpus", "memory", "secret"), None)
    given = nothing | {"image": "registry:5000/segstream@sha256:0a", "mount": "/data", "shm": "16Gi", "backoff": 6}
    service, found = yaml.safe_load_all(kubernetes_manifest(job, **(given | asked)))
    return service, found


def test_pods_of_a_manifest_find_the_first_and_are_started_again_when_they_stopped():
    service, found = manifest(gpus="4", namespace="vision", claim="data", cpus="16", memory="64Gi", secret="store")
    spec, pod = found["spec"], found["spec"]["template"]["spec"]
    (train,) = pod["containers"]
    assert (service["kind"], service["spec"]["clusterIP"]) == ("Service", "None")
    assert service["metadata"]["namespace"] == "vision"
    assert service["spec"]["selector"] == spec["template"]["metadata"]["labels"]
    assert pod["subdomain"] == service["metadata"]["name"] == found["metadata"]["name"] == "job"
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2)
    assert "--rdzv-endpoint=job-0.job:29400 " in train["command"][-1]
    rules = spec["podFailurePolicy"]["rules"]
    codes = {"containerName": train["name"], "operator": "In", "values": [Stopped.exit_code]}
    assert rules[0] == {"action": "Ignore", "onExitCodes": codes}
    assert rules[1]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert pod["restartPolicy"] == "Never"  # a failure policy allows no other
    assert pod["terminationGracePeriodSeconds"] > JOB.grace_s
    assert train["resources"]["limits"] == {"cpu": "16", "memory": "64Gi", "nvidia.com/gpu": "4"}
    assert train["envFrom"] == [{"secretRef": {"name": "store"}}]
    assert {m["name"]: m["mountPath"] for m in train["volumeMounts"]} == {"shm": "/dev/shm", "data": "/data"}
    assert pod["volumes"][0]["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Gi"}


def test_kubernetes_replaces_nothing_in_the_command():
    """It turns `$$` into `$` and `$(NAME)` into a variable's value, as its reference says of `command`."""
    command = manifest()[1]["spec"]["template"]["spec"]["containers"][0]["command"][-1]
    seen = re.sub(r"\$\$|\$\(id\)", lambda found: "$" if found[0] == "$$" else "REPLACED", command)
    assert words_after_train(seen) == list(AWKWARD)


def test_values_that_yaml_takes_for_others_stay_text():
    """And what is not asked for is not there."""
    service, found = manifest(job(name="123"), image="1e3", namespace="on")
    assert (service["metadata"]["name"], service["metadata"]["namespace"]) == ("123", "on")
    (train,) = found["spec"]["template"]["spec"]["containers"]
    assert (train["image"], train["resources"]) == ("1e3", {"limits": {}})
    assert not re.search(r"nvidia|persistentVolumeClaim|secretRef|workingDir|null", str(found))


WORKERS = {  # what torchrun does: it ends with 1 whatever its workers' codes were
    "finish": "exit 0",
    "fail": "exit 1",
    "stop": 'trap \'touch "$SEGSTREAM_STOPPED"; exit 1\' TERM; touch "$READY"; while :; do sleep 0.05; done',
    "are told too late": 'trap "exit 1" TERM; touch "$READY"; while :; do sleep 0.05; done',
    "finish when told": 'trap "exit 0" TERM; touch "$READY"; while :; do sleep 0.05; done',
}


@pytest.mark.parametrize(
    ("workers", "code"), [("finish", 0), ("fail", 1), ("stop", 75), ("are told too late", 1), ("finish when told", 0)]
)
def test_the_first_process_of_a_container_passes_term_on_and_ends_as_the_run_did(workers, code, tmp_path):
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
