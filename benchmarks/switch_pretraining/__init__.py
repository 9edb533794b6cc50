"""Steps that sparse models need to the loss of a dense one."""
