"""Components that let a run go on, or stop it and say why."""
