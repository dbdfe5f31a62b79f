import pytest

from pipeline.distributed.placement import Room, actor_places, bundles, job_bundles, missing_resources
from pipeline.runs.job import Range, override


def test_missing_resources_are_named_by_kind(small):
    job = override(small, learners=2, actors=4, gpus_per_actor=1.0)
    assert job_bundles(job) == [{"CPU": 0.5}] * 2 + [{"CPU": 0.5, "GPU": 1.0}] * 4
    assert missing_resources(job_bundles(job), [{"CPU": 3.0, "GPU": 4.0}]) == ""
    assert missing_resources(job_bundles(job), [{"CPU": 2.0}]) == "3 CPU (2 there) and 4 GPU (0 there)"


def test_a_range_of_learners_requests_the_least_or_the_most(small):
    job = override(small, learners=Range(1, 3), observers=2)
    assert job_bundles(job) == [{"CPU": 0.5}]
    assert job_bundles(job, most=True) == [{"CPU": 0.5}] * 3


def test_each_process_has_to_fit_on_one_machine():
    assert missing_resources(bundles(2.0, 0.0, 3), [{"CPU": 2.0}] * 3) == ""
    assert missing_resources(bundles(4.0, 0.0), [{"CPU": 2.0}] * 3) == "a machine with 4 CPU left"
    assert (
        missing_resources(bundles(1.0, 1.0), [{"CPU": 8.0}, {"CPU": 0.0, "GPU": 1.0}])
        == "a machine with 1 CPU and 1 GPU left"
    )


@pytest.mark.parametrize(
    ("gpus", "machines", "missing"),
    [
        ([0.6] * 3, [2.0], "a machine with 0.6 of a GPU left"),  # 1.8 of 2, but no GPU has room for two
        ([0.6, 0.4, 0.6, 0.4], [2.0], ""),
        ([0.5] * 4, [1.0, 1.0], ""),
        ([0.25] * 4 + [1.0], [2.0], ""),
        ([0.5, 0.5, 0.5, 1.0, 1.0], [2.0, 2.0], ""),
        ([0.6, 0.6, 1.0], [2.0, 1.0], ""),
        ([0.6, 0.6, 0.6, 2.0], [3.0, 1.0], "a machine with 0.6 of a GPU left"),
        ([2.0, 2.0], [3.0, 1.0], "a machine with 2 GPU left"),
        ([0.3, 0.3, 0.3], [0.9], ""),  # what is left of one GPU
    ],
)
def test_a_share_of_a_gpu_has_to_fit_on_one(gpus, machines, missing):
    wanted = [bundle for one in gpus for bundle in bundles(0.0, one)]
    assert missing_resources(wanted, [{"CPU": 8.0, "GPU": there} for there in machines]) == missing


def learners_that_fit(job, free, places):
    """How many learners have room beside actors that are at these places."""
    rooms = {name: Room(machine) for name, machine in free.items()}
    (actor,) = bundles(job.resources.cpus_per_actor, job.resources.gpus_per_actor)
    assert all(rooms[place].take(actor) for place in places)
    (learner,) = bundles(job.resources.cpus_per_learner, job.resources.gpus_per_learner)
    return sum(room.take(learner) for room in rooms.values() for _ in range(10))


@pytest.mark.parametrize("learners", [2, Range(1, 2)])
def test_actors_leave_room_for_learners(small, learners):
    """Placed one after the other, three of these actors on one machine would leave 0.8 CPUs there."""
    job = override(small, learners=learners, cpus_per_learner=1.2, actors=4, cpus_per_actor=0.4)
    free = {"a": {"CPU": 2.0}, "b": {"CPU": 2.0}, "head": {"CPU": 0.0}}
    places = actor_places(job, free)
    assert sorted(places) == ["a", "a", "b", "b"]
    assert learners_that_fit(job, free, places) == 2


def test_actors_go_where_most_is_left(small):
    job = override(small, learners=1, cpus_per_learner=1.0, actors=3, cpus_per_actor=1.0)
    assert actor_places(job, {"a": {"CPU": 2.0}, "b": {"CPU": 3.0}}) == ["b", "b", "a"]


def test_actors_with_gpus_leave_the_learner_its_whole_one(small):
    job = override(small, learners=1, gpus_per_learner=1.0, actors=4, gpus_per_actor=0.25, cpus_per_actor=0.5)
    free = {"a": {"CPU": 8.0, "GPU": 1.0}, "b": {"CPU": 8.0, "GPU": 1.0}}
    places = actor_places(job, free)
    assert len(set(places)) == 1
    assert learners_that_fit(job, free, places) == 1


def test_an_actor_without_room_now_has_no_place(small):
    job = override(small, learners=1, cpus_per_learner=1.0, actors=2, cpus_per_actor=1.0)
    assert actor_places(job, {"a": {"CPU": 2.0}}) == ["a", None]
    assert actor_places(job, {}) == [None, None]
