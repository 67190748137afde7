from sala_kernels.rotary.reference import apply_rotary, rotary_cos_sin

__all__ = ["apply_rotary", "rotary_cos_sin"]
