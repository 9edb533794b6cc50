"""Teachers: loaded, cached on disk, asked for whole answers, judged."""
