"""Programs on meshes of logical devices, each in a process of its own."""
