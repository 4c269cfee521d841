"""Runs as a whole: what is selected, what a run would do, parts of runs on several machines, and how a run ends in an entry."""
