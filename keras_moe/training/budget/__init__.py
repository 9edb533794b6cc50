"""Trainings that end in time, on any machine, and say how far they are."""
