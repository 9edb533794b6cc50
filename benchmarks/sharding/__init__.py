"""Programs on meshes of logical devices, which need processes of their own."""
