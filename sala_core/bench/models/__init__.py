"""Model benchmarks: prefill and decoding, against a full-attention model of the same size."""
