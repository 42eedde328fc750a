"""Worker processes: who starts and supervises them, and what each has of its server."""
