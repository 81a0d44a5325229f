"""The parts of the suite that every backend passes; `backends/testing.py` puts them together."""
