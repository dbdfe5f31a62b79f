"""The files of cluster/launcher: by the schema of Ray's cluster launcher, and what it would ask AWS for (moto)."""

import copy
from pathlib import Path

import click
import jsonschema
import pytest
import yaml
from moto import mock_aws
from ray.autoscaler._private.providers import _get_node_provider_cls
from ray.autoscaler._private.util import prepare_config, validate_config

LAUNCHER = Path(__file__).parents[2] / "cluster/launcher"
CLOUDS = ["aws", "azure", "gcp"]


def read(name):
    return yaml.load((LAUNCHER / f"{name}.yaml").read_text(), yaml.CSafeLoader)


def prepared(config):
    """What `ray up` makes of a file, after its checks."""
    config = prepare_config(copy.deepcopy(config))
    validate_config(config)
    return config


@pytest.mark.parametrize("name", ["local", *CLOUDS])
def test_ray_accepts_every_file(name):
    config = prepared(read(name))
    assert config["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}  # Ray does not take the token anywhere
    starts = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    assert [line.count("ray start") for line in starts] == [0, 1, 0, 1]
    assert "--num-cpus=0" in starts[1]
    assert "RAY_health_check_period_ms=1000" in starts[1]
    options = config.get("docker", {}).get("run_options", starts)
    assert any("RAY_AUTH_MODE=token" in one for one in options)


@pytest.mark.parametrize(("name", "library"), [("aws", "boto3"), ("azure", "azure-mgmt"), ("gcp", "google-api-python")])
def test_the_head_gets_the_library_of_its_cloud(name, library):
    assert any(library in line for line in prepared(read(name))["head_setup_commands"])  # the image has none


@pytest.mark.parametrize("name", CLOUDS)
def test_clouds_have_a_head_without_work_and_spot_workers(name):
    config = prepared(read(name))
    types = config["available_node_types"]
    assert config["head_node_type"] == "head"
    assert types["head"]["resources"] == {"CPU": 0}
    assert types["spot"]["min_workers"] == 0
    market = types["spot"]["node_config"]
    spot = {
        "aws": lambda: market["InstanceMarketOptions"]["MarketType"] == "spot",
        "gcp": lambda: market["scheduling"]["provisioningModel"] == "SPOT",
        "azure": lambda: market["azure_arm_parameters"]["priority"] == "Spot",
    }
    assert spot[name]()
    assert "spot" not in str(types["head"]).lower()


def test_v1_starts_the_workers_of_own_machines():
    assert "RAY_enable_autoscaler_v2=0" in prepared(read("local"))["head_start_ray_commands"][1]


@pytest.mark.parametrize(
    ("name", "change", "wrong"),
    [
        ("aws", {"max_worker": 3}, "'max_worker' was unexpected"),
        ("gcp", {"idle_timeout_minutes": "ten"}, "'ten' is not of type 'number'"),
        ("azure", {"docker": {"imge": "x"}}, "'imge' was unexpected"),
        ("aws", {"head_node_type": "haed"}, "`head_node_type` must be one of"),
        ("local", {"provider": {"type": "local", "head_ip": "10.0.0.1"}}, "worker_ips"),
    ],
)
def test_planted_faults_are_found(name, change, wrong):
    with pytest.raises((jsonschema.ValidationError, ValueError, click.ClickException), match=wrong):
        prepared({**read(name), **change})


def bootstrapped(config):
    """What Ray adds to a file before it asks AWS for machines."""
    provider = _get_node_provider_cls(config["provider"])
    return provider.bootstrap_config(provider.fillout_available_node_types_resources(config))


@pytest.fixture
def aws(monkeypatch, tmp_path):
    """A cloud in this process, and a home for the key pair that Ray makes."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        yield


@pytest.mark.slow
def test_aws_is_asked_for_spot_machines_of_one_gpu(aws, tmp_path):
    types = bootstrapped(prepared(read("aws")))["available_node_types"]
    assert types["spot"]["resources"]["GPU"] == 1
    assert types["spot"]["resources"]["CPU"] == 8
    asked = types["spot"]["node_config"]
    assert asked["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert asked["ImageId"].startswith("ami-")
    assert len(asked["SubnetIds"]) == 3  # one in each zone
    assert asked["SecurityGroupIds"] == types["head"]["node_config"]["SecurityGroupIds"]
    assert len(list((tmp_path / ".ssh").iterdir())) == 1


@pytest.mark.slow
def test_a_wrong_type_of_machine_is_found(aws):
    config = read("aws")
    config["available_node_types"]["spot"]["node_config"]["InstanceType"] = "g5.tiny"
    with pytest.raises(Exception, match=r"g5\.tiny"):
        bootstrapped(prepared(config))
