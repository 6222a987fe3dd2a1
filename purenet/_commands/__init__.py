"""The parts of the commands that work with one's own functions and tables."""
