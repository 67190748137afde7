from sala_kernels.lightning_attention.reference import (
    lightning_attention,
    lightning_decode,
    lightning_log_decay,
)

__all__ = ["lightning_attention", "lightning_decode", "lightning_log_decay"]
