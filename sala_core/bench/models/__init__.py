"""Benchmarks of whole models: prefill, decoding, saving and speculation, against full attention of the same size."""
