"""Manifests for Kubernetes: one pod per machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from segstream.cli.jobs.scripts import EXIT_STOPPED, NAME, WORD, Run, check, node_script

QUANTITY = r"\d+(\.\d+)?([kMGT]i?)?"
OBJECT = r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubernetes:
    """What a Kubernetes Job asks for."""

    image: str
    """A container image with segstream and torch in it."""
    gpus: int
    """Of each pod; 0: none."""
    namespace: str | None = None
    claim: str | None = None
    """A PersistentVolumeClaim that all pods can write; mounted at `mount`, for the run folder (and shards)."""
    mount: str = "/data"
    cpus: str | None = None
    memory: str | None = None
    shm: str = "16Gi"
    """Shared memory of a pod; NCCL needs more than the 64 MiB that it would get."""
    secret: str | None = None
    """A Secret whose entries become environment variables, e.g. of an object store."""
    backoff: int = 6
    """How many pods may fail before the job has failed; those that stopped or were evicted do not count."""

    def __post_init__(self) -> None:
        check("--image", self.image, WORD, "the name of an image")
        check("--gpus-per-node", str(self.gpus), r"\d+", "0 or above")
        check("--mount", self.mount, r"/[A-Za-z0-9._/-]+", "an absolute path")
        for name, value, pattern, wanted in (
            ("--namespace", self.namespace, NAME, "small letters, digits and dashes"),
            ("--claim", self.claim, OBJECT, "the name of a PersistentVolumeClaim"),
            ("--secret", self.secret, OBJECT, "the name of a Secret"),
            ("--cpus", self.cpus, r"\d+(\.\d+)?m?", "cores, e.g. 16"),
            ("--memory", self.memory, QUANTITY, "a quantity, e.g. 64Gi"),
            ("--shm", self.shm, QUANTITY, "a quantity, e.g. 16Gi"),
        ):
            if value is not None:
                check(name, value, pattern, wanted)


def kubernetes_manifest(run: Run, kube: Kubernetes) -> str:
    """A headless Service and an Indexed Job, as two YAML documents: one pod per machine."""
    labels = {"app.kubernetes.io/name": "segstream", "app.kubernetes.io/instance": run.name}
    meta: dict[str, Any] = {"name": run.name, "labels": labels}
    if kube.namespace is not None:
        meta["namespace"] = kube.namespace
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {
            "clusterIP": "None",  # headless: a name for every pod
            "publishNotReadyAddresses": True,
            "selector": labels,
            "ports": [{"name": "rendezvous", "port": run.port}],
        },
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta,
        "spec": {
            "completionMode": "Indexed",
            "completions": run.node_range[1],
            "parallelism": run.node_range[1],
            "backoffLimit": kube.backoff,
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "Ignore",
                        "onExitCodes": {"containerName": "train", "operator": "In", "values": [EXIT_STOPPED]},
                    },
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                ]
            },
            "template": {"metadata": {"labels": labels}, "spec": _pod(run, kube)},
        },
    }
    text: str = yaml.dump_all([service, job], Dumper=_Readable, sort_keys=False, width=1000)
    return text


def _pod(run: Run, kube: Kubernetes) -> dict[str, Any]:
    """One pod: torchrun in a container that may take its time to stop."""
    host = f"{run.name}-0.{run.name}"
    script = node_script(run, host=host, run_id=run.name, index='"$JOB_COMPLETION_INDEX"', forward=True)
    limits = {"cpu": kube.cpus, "memory": kube.memory, "nvidia.com/gpu": str(kube.gpus) if kube.gpus else None}
    container: dict[str, Any] = {
        "name": "train",
        "image": kube.image,
        "command": ["bash", "-c", _literal(script)],
        "resources": {"limits": {name: value for name, value in limits.items() if value is not None}},
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
    }
    volumes: list[dict[str, Any]] = [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": kube.shm}}]
    if kube.secret is not None:
        container["envFrom"] = [{"secretRef": {"name": kube.secret}}]
    if kube.claim is not None:
        container["workingDir"] = kube.mount
        container["volumeMounts"].append({"name": "data", "mountPath": kube.mount})
        volumes.append({"name": "data", "persistentVolumeClaim": {"claimName": kube.claim}})
    return {
        "restartPolicy": "Never",  # the failure policy decides
        "subdomain": run.name,
        "terminationGracePeriodSeconds": run.grace_s + 30,
        "containers": [container],
        "volumes": volumes,
    }


def _literal(script: str) -> str:
    """A container's command in which Kubernetes replaces nothing: `$(NAME)` and `$$` mean something to it."""
    return re.sub(r"\$(?=[$(])", "$$", script)


class _Readable(yaml.SafeDumper):
    """Scripts as blocks of lines, and nothing by reference."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _as_block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Readable.add_representer(str, _as_block)
