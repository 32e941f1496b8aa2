#!/bin/bash
# ./mpi.sh: 4 processes on this machine. Open MPI, MPICH and Intel MPI tell each process which it is.
# On several machines: mpirun -np 8 --hostfile hosts ... --coordinator FIRST_HOST:29500, where process 0 runs; with
# Open MPI 4 the last option can be left out.
exec mpirun -np 4 .venv/bin/python -m jaxdl.train --data-dir mnist --recipe cnn --out runs/mpi --resume "$@"
