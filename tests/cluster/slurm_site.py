"""A Slurm site of a controller and two nodes in network namespaces, for tests; it needs root and Debian's Slurm."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "ip", "nsenter", "setpriv")
REPOSITORY = Path(__file__).parents[2]
BATCH_FILE = REPOSITORY / "cluster/slurm/ebm.sbatch"
CONFIGURATION = """
ClusterName=site
SlurmctldHost=ctl(10.78.0.100)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
StateSaveLocation={folder}/state
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdSpoolDir={folder}/spool.%n
{parameters}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=5,sched_interval=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdTimeout=60
KillWait=10
MpiDefault=none
SwitchType=switch/none
SlurmdParameters=config_overrides
JobRequeue=1
NodeName=n1 NodeAddr=10.78.0.1 CPUs=2 RealMemory=8000
NodeName=n2 NodeAddr=10.78.0.2 CPUs=2 RealMemory=8000
PartitionName=batch Nodes=n1,n2 Default=YES MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE GraceTime={grace}
PartitionName=urgent Nodes=n1,n2 MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
"""


def missing() -> str:
    """What a site needs and this machine lacks; empty if nothing."""
    lacks = [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")]
    return "root" if os.geteuid() else ", ".join(lacks)


class SlurmSite:
    """Commands on a site's controller."""

    def __init__(self, folder: Path, pid: int):
        self.folder, self.pid = folder, pid

    def run(self, *words: str, cwd: Path | None = None, **variables: str) -> str:
        """What a command prints; a failure is an AssertionError with its output."""
        enter = [
            "nsenter",
            "--target",
            str(self.pid),
            "--net",
            "--mount",
            "--uts",
            "--pid",
            f"--wdns={cwd or self.folder}",
        ]
        environment = {**os.environ, "SLURM_CONF": f"{self.folder}/slurm.conf", **variables}
        ended = subprocess.run([*enter, *words], env=environment, capture_output=True, text=True, timeout=120)
        assert ended.returncode == 0, f"{words}: {ended.stderr}"
        return ended.stdout.strip()

    def submit(self, flags: str, command: str, **variables: str) -> str:
        """The id of a job of the project's batch file, submitted in the site's folder."""
        own = {
            "EBM_ENVIRONMENT": sys.prefix,
            "EBM_SCRATCH": "/mnt",
            "EBM_STORE_BYTES": "100000000",
            "PYTHONPATH": str(REPOSITORY),
        }
        words = ["sbatch", "--parsable", *flags.split(), str(BATCH_FILE), *command.split()]
        return self.run(*words, **own, **variables)

    def state(self, job: str) -> str:
        """Slurm's word for how a job is."""
        shown = dict(word.partition("=")[::2] for word in self.run("scontrol", "show", "job", "-o", job).split())
        return shown["JobState"]

    def log(self, job: str) -> str:
        """What a job has printed."""
        file = self.folder / f"ebm-{job}.out"
        return file.read_text() if file.exists() else ""

    def wait_for(self, condition, seconds: float, job: str) -> None:
        """Return once the condition holds; otherwise an AssertionError with the job's log."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{self.state(job)}\n{self.log(job)}"
            time.sleep(1)


@contextmanager
def slurm_site(
    folder: Path, parameters: str = "SlurmctldParameters=preempt_send_user_signal", grace: int = 60
) -> Iterator[SlurmSite]:
    """A site whose files are in a folder; its processes end with the block, or with this process."""
    for name in ("state", "spool.n1", "spool.n2"):
        (folder / name).mkdir(parents=True)
    (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder, parameters=parameters, grace=grace))
    folder.chmod(0o755)
    spaces = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]
    script = str(Path(__file__).with_suffix(".sh"))
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    with (folder / "site.log").open("w") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *spaces, "bash", script, str(folder)],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
    try:
        site = SlurmSite(folder, _child(process))
        deadline = time.monotonic() + 60
        while True:
            try:
                if site.run("sinfo", "--noheader", "--format=%T", "--partition=batch") == "idle":
                    break
            except AssertionError:
                pass
            assert time.monotonic() < deadline, (folder / "site.log").read_text()
            time.sleep(0.5)
        yield site
    finally:
        process.kill()
        process.wait()


def _child(process: subprocess.Popen) -> int:
    """The first process of the site's namespaces, as this machine counts processes."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (found := children.read_text().split()):
        assert process.poll() is None
        time.sleep(0.05)
    return int(found[0])
