"""Worker processes: the supervisor that starts them, and the server as a worker sees it."""
