"""Options of both ends of the gRPC link."""

from fedpipe.links.frames import LARGEST_FRAME

METHOD, SERVICE, CALL = "/fedpipe.Federation/Answer", "fedpipe.Federation", "Answer"
COORDINATOR = "coordinator"  # the name in its certificate
# Both ends notice within half a minute that the other one is gone, and routers keep the connection.
OPTIONS = [
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # a minute otherwise, whatever keepalive_timeout_ms says
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_receive_message_length", LARGEST_FRAME + 64),
    ("grpc.max_send_message_length", LARGEST_FRAME + 64),
    ("grpc.enable_http_proxy", 0),
]
