import sys

from pydicom.tag import Tag
from pynetdicom import AE
from pynetdicom.sop_class import DisplaySystem, DisplaySystemInstance

ae = AE()
ae.add_requested_context(DisplaySystem)
assoc = ae.associate("127.0.0.1", int(sys.argv[1]))
tags = [Tag(0x0008, 0x0070), Tag(0x0018, 0x1020)]
status, ds = assoc.send_n_get(tags, DisplaySystem, DisplaySystemInstance)
print(f"0x{status.Status:04X}", ds.Manufacturer)
status, ds = assoc.send_n_get(tags, DisplaySystem, "1.2.3")
print(f"0x{status.Status:04X}", ds, status.ErrorComment)
assoc.release()
