"""What can be known of the kernels without running them on a card: errors, resources, bytes and FLOPs."""
