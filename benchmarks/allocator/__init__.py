"""What `GLIBC_TUNABLES` does for a training step on a CPU."""
