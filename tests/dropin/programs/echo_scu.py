import sys

from pynetdicom import AE

ae = AE()
ae.add_requested_context("1.2.840.10008.1.1")
assoc = ae.associate("127.0.0.1", int(sys.argv[1]), ae_title="ECHO_SCP")
if assoc.is_established:
    status = assoc.send_c_echo()
    if status:
        print(f"C-ECHO: 0x{status.Status:04x}")
    else:
        print("Connection timed out, was aborted or received an invalid response")
    assoc.release()
else:
    print("Association rejected, aborted or never connected")
print(assoc.is_released)
