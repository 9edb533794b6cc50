"""What puts load, good and bad, on the embedded model server."""
