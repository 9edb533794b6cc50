"""Version folders: what lies in them, which is served, how one is added."""
