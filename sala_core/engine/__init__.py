"""The engine: prefill, decoding, sampling and memory planning for one loaded model."""
