"""Model architectures as data, and the few operations every architecture shares."""
