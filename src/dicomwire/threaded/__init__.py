"""The threaded face: blocking calls, worker threads, and the lobby for idle associations."""
