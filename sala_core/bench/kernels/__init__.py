"""Benchmarks of operations, against the ceilings of the device and other implementations."""
