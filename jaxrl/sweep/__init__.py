"""`sweep`: `vmap` with names, chunks, devices and a folder, over any function of a config.

Which module writes which file of a folder:

    sweep.json                   the record: what runs, over which axes. store.py writes what
                                 record.py makes, of serialize.py (the training) and provenance.py
                                 (versions, machine, commit)
    members/FIRST-LAST.npz       a finished chunk: curves and agents. store.py
    open/FIRST-LAST-WIDTH/ROW/   checkpoints of a running chunk. checkpoint.py
    arrays/SHA256.npy            large arrays of what is swept. arrays.py
    results.nc                   the dataset, once all runs have finished. store.py writes what
                                 results.py makes; netcdf.py reads it
    width.json, .lock, .holder   the program's width, and the process that holds it. store.py
    static/NNN/                  a folder for each combination of static axes. static_groups.py
    before/NNN/                  the study before it was extended, whole. swap.py, for extend.py
    FILE.json                    a record and its curves in one file (rl.export). record_file.py

What runs: api.py (`sweep`, `load`) and plan.py (`plan`) make a grid.py `Grid` and a program.py
`Stepped` or `Whole`, which executor.py runs chunk by chunk within memory.py's limits, shared among
processes by multihost.py, until a signal stops it (stopping.py); partial.py says what is kept
then. lookup.py finds one member of a folder again.
"""

from jaxrl.sweep.api import load, sweep
from jaxrl.sweep.extend import extend
from jaxrl.sweep.grid import zipped
from jaxrl.sweep.plan import plan

__all__ = ["extend", "load", "plan", "sweep", "zipped"]
