"""Components that make a student, and certify its exits."""
