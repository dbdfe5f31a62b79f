"""A cluster that has grown for a run gives its machines back."""

from test_autoscaler import growing, train  # noqa: F401  (a fixture)
from watch import watch


def test_machines_that_were_added_for_a_run_go_after_it(growing, tmp_path):  # noqa: F811
    with watch(growing, tmp_path / "count") as machines:
        machines.wait_for(1, 120)
        code, _, err = train(growing, tmp_path / "run", 4)
        assert code == 0, err
        assert max(machines.numbers()) == 3
        print(f"one machine again {machines.wait_for(1, 240):.0f} s after the run")
