"""The stages: parameters and input files in, output files in their own folder out."""
