"""The services of PS3.4 and PS3.7 as coroutines over a small port: no sockets, threads or clocks.

Both faces run the same coroutines, so no service is written twice.
"""
