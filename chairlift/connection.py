"""How a client holds its connection: retries, keepalive, load balancing. Both clients share it."""

import json

DEFAULT_SERVER = "127.0.0.1:50051"

# Every call is idempotent, so any may be sent again. gRPC adds jitter to the backoff, puts the delay that the
# server asks for in its place, and stays within the deadline of the call. The throttle stops retries once
# more than about one attempt in ten fails for long: clients must not keep an overloaded server down.
SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{"service": "chairlift.v1.Seq2SeqService"}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
}

# A ping a minute while calls are open: servers that allow one every 30 s accept it.
# An answer may hold millions of numbers (DecodingOptions says how many); by itself gRPC refuses over 4 MiB.
CHANNEL_OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.max_receive_message_length", 256 << 20),
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    ("grpc.enable_retries", 1),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
)
