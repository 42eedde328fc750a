"""The threaded face: blocking calls, pool threads, and the watcher of idle associations."""
