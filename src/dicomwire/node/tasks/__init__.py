"""Work that outlives the request that causes it: rows of the index, and threads that run them."""
