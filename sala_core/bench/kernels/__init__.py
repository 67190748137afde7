"""Kernel benchmarks: each operation against the machine's ceilings and other implementations."""
