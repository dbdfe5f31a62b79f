"""The only package that imports ray.

Ray reads these environment variables when it is imported or when it starts a node. Every module of this package imports
this one first, so they are set in time. A value that the user has set stays.
"""

import os

RAY_ENVIRONMENT = {
    # Workers run at normal priority. Ray's default is 15, for work in the background; chains are the main work.
    "RAY_worker_niceness": "0",
    # A thread that is still at work when a command disconnects must not start another Ray.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    # Ray's own default. Ray warns if it is not set.
    "RAY_AUTH_MODE": "token",
    # Messages carry results of up to 1 MiB, which is faster than the object store.
    "RAY_max_direct_call_object_size": str(2**20),
    # Saves one process per run that only warns before a machine is preempted.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # Seconds until the driver notices that the learners have finished; Ray's default is 2.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # Seconds to wait for room for a group of learners. After a machine is lost, Ray decides on a view of the cluster
    # that is up to 20 s old, and waits in vain for as many learners as before; then it tries fewer. Its default is 60.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10",
    # Trials write their own TensorBoard files.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Ctrl-C ends the command at once; jobs.resume continues the search.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # The old reporter is silent at verbose=0. The driver draws its own progress bar.
    "RAY_AIR_NEW_OUTPUT": "0",
}

for _name, _value in RAY_ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)
