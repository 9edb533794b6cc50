"""The parts of `benchmarks.switch_pretraining`, one role a file."""
