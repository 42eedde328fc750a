"""The pixels of stored objects: where their frames are, and pictures of them."""
