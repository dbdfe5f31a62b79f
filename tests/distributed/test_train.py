from types import SimpleNamespace

import pytest
from ray.exceptions import RayActorError

from pipeline.batch import Spec
from pipeline.distributed import train
from pipeline.errors import LearnersLost
from pipeline.runs.job import override
from pipeline.runs.job_json import to_json
from pipeline.runs.storage import Storage

pytestmark = pytest.mark.xdist_group("ray")


def test_the_end_of_ray_trains_controller_is_one_line(ray_session, small, monkeypatch):
    """As where it cannot write its own files into the run folder."""
    job = override(small, learners=1)
    Storage.at(job.out).write_json("job.json", to_json(job))

    def fit():
        raise RayActorError(error_msg="The actor died in its creation task\n  Traceback\nOSError: no space\n")

    monkeypatch.setattr(train, "_trainer", lambda *_: SimpleNamespace(fit=fit))
    with pytest.raises(LearnersLost, match=r"^Ray Train's controller has ended; its error: OSError: no space$"):
        train.run_learners(job, Spec("image", (1, 8, 8), 10), [])
