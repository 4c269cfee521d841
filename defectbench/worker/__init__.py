"""Runs inside a model's environment: takes calculations on stdin, streams results to stdout, one JSON object per line.

This package is copied beside the cache and run by the environment's own Python under the name ``defectbench_worker``,
so it imports nothing but the standard library, ase, numpy, itself (relatively), and the one model package it serves.
It must work on Python 3.10.
"""
