from sala_kernels.key_compression.reference import compress_keys, num_windows

__all__ = ["compress_keys", "num_windows"]
