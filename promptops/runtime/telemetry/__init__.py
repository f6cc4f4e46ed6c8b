"""What a service may tell of its requests: an events file or stream, OpenTelemetry, Prometheus. No customer's text unless asked for."""

from promptops.runtime.telemetry.events import EventsFile, read_events
from promptops.runtime.telemetry.record import Labels, tenant_hash

__all__ = ["EventsFile", "Labels", "read_events", "tenant_hash"]
