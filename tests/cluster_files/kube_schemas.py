"""What an API server with KubeRay 1.7 would refuse: fields by the kinds' schemas, values by KubeRay's own rules."""

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from jsonschema import Draft7Validator

CRDS = Path(__file__).parents[1] / "cluster/crd"
KUBERNETES = "1.33"
NOT_JSON_SCHEMA = re.compile("x-kubernetes-|description$|default$")
LONGEST_NAME = {"RayCluster": 63, "RayJob": 47}


def faults(manifest: dict[str, Any]) -> list[str]:
    """What is wrong with a manifest; none if it would be accepted."""
    key = manifest["apiVersion"], manifest["kind"]
    if key not in (schemas := _schemas()):
        try:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as e:
            return [str(e).splitlines()[0]]
        return []
    errors = schemas[key].iter_errors(manifest)
    wrong = [f"{'.'.join(map(str, e.absolute_path))}: {e.message}" for e in errors]
    return wrong or [*_broken_rules(manifest)]


@functools.cache
def _schemas() -> dict[tuple[str, str], Draft7Validator]:
    """The checks of KubeRay's kinds, by apiVersion and kind."""
    found = {}
    for path in sorted(CRDS.glob("*.yaml")):
        spec = yaml.load(path.read_text(), yaml.CSafeLoader)["spec"]
        for version in spec["versions"]:
            schema = _strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = Draft7Validator(schema)
    return found


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    """A structural schema of Kubernetes as JSON schema, in which an unknown field is a fault."""
    strict = {key: value for key, value in schema.items() if not NOT_JSON_SCHEMA.match(key)}
    if "properties" in schema:
        strict["properties"] = {name: _strict(one) for name, one in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            strict["additionalProperties"] = False
    if isinstance(schema.get("items"), dict):
        strict["items"] = _strict(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        strict["additionalProperties"] = _strict(schema["additionalProperties"])
    if "required" in schema:  # the server fills in defaults first
        strict["required"] = [n for n in schema["required"] if "default" not in schema["properties"].get(n, {})]
    if schema.get("x-kubernetes-int-or-string"):
        strict["type"] = ["integer", "string"]
        strict.pop("anyOf", None)
    if strict.pop("nullable", False):
        strict["type"] = [strict["type"], "null"]
    return strict


def _broken_rules(manifest: dict[str, Any]) -> Iterator[str]:
    """The operator's rules that a manifest breaks, as far as this project's manifests touch them."""
    spec, name = manifest["spec"], manifest["metadata"]["name"]
    if len(name) > LONGEST_NAME[manifest["kind"]] or not re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name):
        yield f"{name} is no DNS label, or too long"
    if manifest["kind"] == "RayCluster":
        yield from _broken_rules_of_clusters(spec)
        return
    if not spec.get("rayClusterSpec") and not spec.get("clusterSelector"):
        yield "neither rayClusterSpec nor clusterSelector"
    if spec.get("clusterSelector") and spec.get("backoffLimit"):
        yield "backoffLimit with clusterSelector"
    if spec.get("submissionMode") == "InteractiveMode" and spec.get("backoffLimit"):
        yield "backoffLimit with InteractiveMode"
    if not spec.get("shutdownAfterJobFinishes") and (spec.get("ttlSecondsAfterFinished") or spec.get("suspend")):
        yield "ttlSecondsAfterFinished or suspend without shutdownAfterJobFinishes"
    if spec.get("activeDeadlineSeconds", 1) <= 0:
        yield "activeDeadlineSeconds is not positive"
    if not isinstance(yaml.safe_load(spec.get("runtimeEnvYAML", "{}")), dict):
        yield "runtimeEnvYAML is no mapping"
    yield from _broken_rules_of_clusters(spec.get("rayClusterSpec", {}))


def _broken_rules_of_clusters(spec: dict[str, Any]) -> Iterator[str]:
    head, workers = spec.get("headGroupSpec", {}), spec.get("workerGroupSpecs", [])
    options, scales = spec.get("autoscalerOptions", {}), spec.get("enableInTreeAutoscaling", False)
    version = tuple(int(part) for part in spec.get("rayVersion", "0.0").split("."))
    if spec.get("authOptions", {}).get("mode") == "token" and version < (2, 52):
        yield "token authentication needs rayVersion 2.52"
    for group in (head, *workers):
        who, pod = group.get("groupName", "head"), group["template"]["spec"]
        if {"num-cpus", "num-gpus", "memory", "resources"} & {*group.get("rayStartParams", {})} and group.get(
            "resources"
        ):
            yield f"{who}: resources and rayStartParams both say what it has"
        if "labels" in group.get("rayStartParams", {}):
            yield f"{who}: labels belong to the group"
        if scales and options.get("version") == "v2" and pod.get("restartPolicy", "Never") != "Never":
            yield f"{who}: autoscaler v2 wants restartPolicy Never"
        if any(one["name"] == "RAY_enable_autoscaler_v2" for one in pod["containers"][0].get("env", [])):
            yield f"{who}: autoscalerOptions.version says it"
    for group in workers:
        if not scales and not {"minReplicas", "maxReplicas"} <= {*group}:
            yield f"{group['groupName']}: minReplicas and maxReplicas are needed"
        if not 0 <= group.get("minReplicas", 0) <= group.get("replicas", 0) <= group.get("maxReplicas", 1e9):
            yield f"{group['groupName']}: minReplicas, replicas and maxReplicas are not in order"
        if "idleTimeoutSeconds" in group and not (scales and options.get("version") == "v2"):
            yield f"{group['groupName']}: idleTimeoutSeconds needs autoscaler v2"
