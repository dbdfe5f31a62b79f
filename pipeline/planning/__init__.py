"""What a job costs on machines that are not there yet: measured costs, and a simulation of the protocol by events.

Nothing here imports torch or Ray. `costs` are numbers that `pipeline.distributed.calibration` measures or a user gives,
`machines` and `layout` say what is planned, `simulation` runs the protocol, and `recommend` compares layouts.
"""
