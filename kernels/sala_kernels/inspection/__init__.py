"""What is known about the kernels without running them on a GPU: resources, errors, bytes and FLOPs."""
