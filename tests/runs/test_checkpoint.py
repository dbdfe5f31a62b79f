import pytest
import torch

from pipeline.runs import checkpoint
from pipeline.runs.storage import Storage

TREE = {
    "nets": {"e": torch.arange(6.0).reshape(2, 3).T},
    "groups": [{"lr": 0.1, "betas": (0.9, 0.999)}, None],
    "n": {3: torch.tensor(7)},
}


def test_split_and_join_are_inverse():
    rest, tensors = checkpoint.split_tensors(TREE)
    assert sorted(tensors) == ["n/integer:3", "nets/e"]
    joined = checkpoint.join_tensors(rest, tensors)
    assert torch.equal(joined["nets"]["e"], TREE["nets"]["e"])
    assert joined["groups"] == [{"lr": 0.1, "betas": [0.9, 0.999]}, None]
    assert joined["n"] == {3: torch.tensor(7)}


def saved(checkpoints, update):
    place = checkpoint.checkpoint_folder(checkpoints, update)
    part = checkpoint.write_part(place, "learner", TREE)
    checkpoint.commit(place, [part], {"update": update})
    return place


@pytest.fixture
def checkpoints(tmp_path):
    return Storage.at(str(tmp_path / "checkpoints"))


def test_a_checkpoint_comes_back_as_it_was(checkpoints):
    place = saved(checkpoints, 7)
    assert checkpoint.read_state(place) == {"update": 7}
    assert torch.equal(checkpoint.read_part(place, "learner")["nets"]["e"], TREE["nets"]["e"])
    assert checkpoint.newest_name(checkpoints) == "update-00000007"


@pytest.mark.parametrize("name", ["manifest.json", "state.json", "learner.safetensors"])
@pytest.mark.parametrize("fault", ["missing", "cut", "flipped", "empty"])
def test_whole_or_not_at_all(checkpoints, name, fault):
    saved(checkpoints, 1)
    place = saved(checkpoints, 2)
    data = place.read(name)
    if fault == "missing":
        place.fs.delete_file(f"{place.path}/{name}")
    else:
        flipped = data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]
        place.write(name, {"cut": data[:-5], "flipped": flipped, "empty": b""}[fault])
    assert checkpoint.newest_name(checkpoints) == "update-00000001"


def test_no_folder_is_no_checkpoint(checkpoints):
    assert checkpoint.newest_name(checkpoints) is None


def test_prune_keeps_the_newest(checkpoints):
    for update in (5, 20, 100):
        saved(checkpoints, update)
    checkpoint.prune(checkpoints, 2)
    assert checkpoints.names() == ["update-00000020", "update-00000100"]


def test_torn_folders_newer_than_the_run_are_forgotten(checkpoints):
    saved(checkpoints, 4)
    torn = saved(checkpoints, 8)
    torn.remove("manifest.json")
    checkpoint.remove_after(checkpoints, checkpoint.newest_name(checkpoints))
    saved(checkpoints, 6)
    checkpoint.prune(checkpoints, 1)
    assert checkpoint.newest_name(checkpoints) == "update-00000006"
