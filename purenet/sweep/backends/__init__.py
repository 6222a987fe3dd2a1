"""Where trials are trained: executors, several processes, populations."""
