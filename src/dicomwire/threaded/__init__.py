"""The face that blocks: sockets, threads and the lobby where quiet associations wait."""
