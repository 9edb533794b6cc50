"""The parts of the distillation benchmark."""
