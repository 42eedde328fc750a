"""Sources, sinks and payloads of datasets, under the name that programs import.

The modules of `data` define them.
"""

from __future__ import annotations

from dicomwire.data.payloads import FilePayload as FilePayload
from dicomwire.data.payloads import MemoryPayload as MemoryPayload
from dicomwire.data.payloads import Payload as Payload
from dicomwire.data.sinks import DiscardSink as DiscardSink
from dicomwire.data.sinks import FileSink as FileSink
from dicomwire.data.sinks import MemorySink as MemorySink
from dicomwire.data.sinks import Sink as Sink
from dicomwire.data.sinks import SinkFull as SinkFull
from dicomwire.data.sinks import SinkRefused as SinkRefused
from dicomwire.data.sinks import SpoolSink as SpoolSink
from dicomwire.data.sources import BytesSource as BytesSource
from dicomwire.data.sources import FileSource as FileSource
from dicomwire.data.sources import Source as Source
