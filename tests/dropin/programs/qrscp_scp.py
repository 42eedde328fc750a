"""Runs qrscp: its port and a folder to keep everything in are given."""

import runpy
import sys
from pathlib import Path

port, folder = sys.argv[1:]
config = Path(folder, "qrscp.ini")
config.write_text(f"""\
[DEFAULT]
ae_title: QRSCP
port: {port}
max_pdu: 16382
acse_timeout: 30
dimse_timeout: 30
network_timeout: 30
bind_address: 127.0.0.1
instance_location: {folder}/instances
database_location: {folder}/instances.sqlite
""")
sys.argv[1:] = ["qrscp", "-q", "-c", str(config)]
runpy.run_module("pynetdicom", run_name="__main__")
