"""The manifests of cluster/kubernetes: rendered by kubectl, and checked against the schemas and rules of KubeRay."""

import copy
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from kube_schemas import faults

KUBERNETES = Path(__file__).parents[2] / "cluster/kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
COMPONENTS = ["", "s3", "kueue", "volcano", "s3 kueue"]


def render(folder):
    """The manifests of a folder, by kind and name."""
    kubectl = shutil.which("kubectl", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    shown = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    manifests = yaml.load_all(shown.stdout, yaml.CSafeLoader)
    return {(one["kind"], one["metadata"]["name"]): one for one in manifests}


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request):
    return render(KUBERNETES / "overlays" / request.param)


@pytest.fixture(scope="module")
def gpu_job():
    return render(KUBERNETES / "overlays/gpu-job")


def cluster_of(manifests):
    """The description of the Ray cluster, in a RayCluster or a RayJob."""
    job = manifests.get(("RayJob", "ebm"))
    return job["spec"]["rayClusterSpec"] if job else manifests["RayCluster", "ebm"]["spec"]


def pods_of(cluster):
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def test_every_overlay_is_accepted(overlay):
    assert {key: wrong for key, one in overlay.items() if (wrong := faults(one))} == {}
    assert {("RayJob", "ebm") in overlay, ("RayCluster", "ebm") in overlay} == {True, False}


@pytest.mark.parametrize("names", COMPONENTS)
def test_components_go_together(names, tmp_path):
    folders = [name for name in names.split() if name == "s3"] + ["job"] + [n for n in names.split() if n != "s3"]
    shutil.copytree(KUBERNETES, tmp_path / "k")
    place = tmp_path / "k/overlays/mine"
    place.mkdir()
    content = {"resources": ["../gpu"], "components": [f"../../components/{name}" for name in folders]}
    (place / "kustomization.yaml").write_text(yaml.safe_dump(content))
    manifests = render(place)
    assert [wrong for one in manifests.values() for wrong in faults(one)] == []
    volumes = {one["name"] for pod in pods_of(cluster_of(manifests)) for one in pod["volumes"]}
    assert ("runs" in volumes) == (("PersistentVolumeClaim", "ebm-runs") in manifests) == ("s3" not in names)
    labels = manifests["RayJob", "ebm"]["metadata"].get("labels", {})
    assert ("kueue.x-k8s.io/queue-name" in labels) == ("kueue" in names)
    assert ("volcano.sh/queue-name" in labels) == ("volcano" in names)


def test_the_head_does_no_work_and_every_pod_has_what_ray_needs(overlay):
    cluster = cluster_of(overlay)
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    claims, priorities = (
        {name for kind, name in overlay if kind == wanted} for wanted in ("PersistentVolumeClaim", "PriorityClass")
    )
    for pod in pods_of(cluster):
        volumes = {one["name"]: one for one in pod["volumes"]}
        mounts = {one["mountPath"]: volumes[one["name"]] for one in pod["containers"][0]["volumeMounts"]}
        assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory"
        assert mounts["/runs"]["persistentVolumeClaim"]["claimName"] in claims
        assert pod["priorityClassName"] in priorities
        assert pod["terminationGracePeriodSeconds"] > 30  # Ray drains for so long
        resources = pod["containers"][0]["resources"]
        assert resources["requests"] == resources["limits"]


def test_workers_are_what_the_overlay_says():
    gpu, spot, cpu = (cluster_of(render(KUBERNETES / "overlays" / name)) for name in ("gpu", "spot", "cpu"))
    of = lambda cluster, key: cluster["workerGroupSpecs"][0]["template"]["spec"].get(key)  # noqa: E731
    assert [of(one, "containers")[0]["resources"]["limits"].get("nvidia.com/gpu") for one in (cpu, gpu)] == [None, "1"]
    assert {one["key"] for one in of(spot, "tolerations")} - {one["key"] for one in of(gpu, "tolerations")} == {
        "cloud.google.com/gke-spot",
        "kubernetes.azure.com/scalesetpriority",
    }
    assert not spot["headGroupSpec"]["template"]["spec"].get("tolerations")
    assert of(cpu, "tolerations") is None


def entrypoints():
    for name in OVERLAYS:
        if job := render(KUBERNETES / "overlays" / name).get(("RayJob", "ebm")):
            yield name, shlex.split(job["spec"]["entrypoint"]), job["spec"]["rayClusterSpec"]


def test_a_retry_goes_on_and_the_processes_fit_the_workers():
    from jobs.cli.experiment import _start_args, load_experiment, named_presets
    from jobs.cli.parsing import parse
    from pipeline.distributed.placement import job_bundles, missing_resources
    from pipeline.runs.job import check_job

    for name, words, cluster in entrypoints():
        assert words[:3] == ["python", "-m", f"jobs.{words[2].removeprefix('jobs.')}"]
        preset = named_presets(load_experiment(words[2].removeprefix("jobs.")))[words[3]]
        kind = _start_args(type(preset.recipe))
        start = parse(kind, words[4:], name, "", kind(preset), "")
        check_job(start.job)
        assert start.resume_if_exists
        assert start.job.out.startswith("/runs/")
        limits = cluster["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["resources"]["limits"]
        machine = {"CPU": float(limits["cpu"]), "GPU": float(limits.get("nvidia.com/gpu", 0))}
        most = cluster["workerGroupSpecs"][0]["maxReplicas"]
        assert not missing_resources(job_bundles(start.job, most=True), [machine] * most)
        assert not missing_resources(job_bundles(start.job), [machine] * most)
        assert 2 * start.job.resources.cpus_per_learner > machine["CPU"]  # one learner a machine, beside its actors


@pytest.mark.parametrize(
    ("path", "value", "wrong"),
    [
        ("spec.rayClusterSpec.workerGroupSpecs.0.minReplica", 1, "Additional properties are not allowed"),
        ("spec.rayClusterSpec.workerGroupSpecs.0.maxReplicas", "four", "is not of type 'integer'"),
        ("spec.rayClusterSpec.headGroupSpec.template.spec.containers.0.volumeMount", [], "Additional properties"),
        ("spec.submissionMode", 3, "is not of type 'string'"),
        ("spec.rayClusterSpec.rayVersion", "2.50.0", "token authentication needs rayVersion 2.52"),
        ("spec.rayClusterSpec.workerGroupSpecs.0.template.spec.restartPolicy", "Always", "wants restartPolicy Never"),
        ("spec.rayClusterSpec.workerGroupSpecs.0.minReplicas", 9, "are not in order"),
        ("spec.rayClusterSpec.headGroupSpec.resources", {"CPU": "0"}, "both say what it has"),
        ("spec.shutdownAfterJobFinishes", False, "without shutdownAfterJobFinishes"),
        ("spec.clusterSelector", {"ray.io/cluster": "ebm"}, "backoffLimit with clusterSelector"),
        ("spec.preRunningDeadlineSeconds", 0, "is less than the minimum of 1"),
        ("metadata.name", "e" * 48, "too long"),
    ],
)
def test_planted_faults_are_found(gpu_job, path, value, wrong):
    job = copy.deepcopy(gpu_job["RayJob", "ebm"])
    *parents, last = path.split(".")
    place = job
    for key in parents:
        place = place[int(key) if key.isdigit() else key]
    place[last] = value
    found = faults(job)
    assert len(found) == 1
    assert wrong in found[0]


@pytest.mark.parametrize(("kind", "field"), [("PersistentVolumeClaim", "spce"), ("PriorityClass", "valeu")])
def test_unknown_fields_of_core_kinds_are_found(gpu_job, kind, field):
    one = next(manifest for (k, _), manifest in gpu_job.items() if k == kind)
    assert faults(one) == []
    assert f"'{field}' was unexpected" in faults({**one, field: 1})[0]
