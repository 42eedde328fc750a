import sys

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, StoragePresentationContexts
from pynetdicom.sop_class import CTImageStorage

ds = Dataset()
ds.SOPClassUID = CTImageStorage
ds.SOPInstanceUID = generate_uid()
ds.PatientName = "Doe^Jane"
ds.file_meta = FileMetaDataset()
ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian

ae = AE()
ae.requested_contexts = StoragePresentationContexts
assoc = ae.associate("127.0.0.1", int(sys.argv[1]))
print(len(assoc.accepted_contexts), "contexts accepted")
status = assoc.send_c_store(ds, priority=1)
print(f"C-STORE: 0x{status.Status:04X}")
status = assoc.send_c_store(dcmread(sys.argv[2]))
print(f"C-STORE: 0x{status.Status:04X}")
status = assoc.send_c_store(sys.argv[2], msg_id=2)
print(f"C-STORE: 0x{status.Status:04X}")
assoc.release()
