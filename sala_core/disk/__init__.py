"""Files: atomic writes and the safetensors layout."""
