"""Which figures stand in which table, and what they mean. Data alone."""

from typing import NamedTuple


class Row(NamedTuple):
    """A line of a table: what it is, the figure's key, and the key that it is set against, empty for none."""

    label: str
    key: str
    against: str = ""


CALLS = (
    Row("one word a call, 1 in flight: calls/s", "unary.rps_1", "echo.rps_1"),
    Row("— median, ms", "unary.p50_ms_1", "echo.p50_ms_1"),
    Row("— 99th percentile, ms", "unary.p99_ms_1", "echo.p99_ms_1"),
    Row("— server CPU, µs a call", "unary.cpu_us_1", "echo.cpu_us_1"),
    Row("one word a call, 64 in flight: calls/s", "unary.rps_64", "echo.rps_64"),
    Row("— median, ms", "unary.p50_ms_64", "echo.p50_ms_64"),
    Row("— 99th percentile, ms", "unary.p99_ms_64", "echo.p99_ms_64"),
    Row("— server CPU, µs a call", "unary.cpu_us_64", "echo.cpu_us_64"),
    Row("— client CPU, µs a call", "unary.client_cpu_us_64", "echo.client_cpu_us_64"),
    Row("— rows in a step, mean", "unary.mean_step_rows_64"),
    Row("one word a call, 256 in flight: calls/s", "unary.rps_256", "echo.rps_64"),
    Row("— median, ms", "unary.p50_ms_256"),
    Row("— 99th percentile, ms", "unary.p99_ms_256"),
    Row("— server CPU, µs a call", "unary.cpu_us_256", "echo.cpu_us_64"),
    Row("— rows in a step, mean", "unary.mean_step_rows_256"),
    Row("32 words a call, 16 in flight: words/s", "list32.words_s", "echo.rps_64"),
    Row("— median of a call, ms", "list32.p50_ms"),
    Row("— 99th percentile of a call, ms", "list32.p99_ms"),
    Row("— server CPU, µs a word", "list32.cpu_us", "echo.cpu_us_64"),
    Row("256 words a call, 16 in flight: words/s", "list256.words_s", "echo.rps_64"),
    Row("— median of a call, ms", "list256.p50_ms"),
    Row("— 99th percentile of a call, ms", "list256.p99_ms"),
    Row("— server CPU, µs a word", "list256.cpu_us", "echo.cpu_us_64"),
    Row("stream, 1 in flight: first token, median, ms", "stream.first_token_p50_ms", "echo.p50_ms_1"),
    Row("— first token, 99th percentile, ms", "stream.first_token_p99_ms", "echo.p99_ms_1"),
    Row("— whole stream, median, ms", "stream.p50_ms"),
    Row("memory of all its processes: resident, MiB", "memory.rss_mib"),
    Row("— shared pages in parts (PSS), MiB", "memory.pss_mib"),
)

PRIORITY = (
    Row("priority 1: median, ms", "priority.flood_p50_ms", "priority.idle_p50_ms"),
    Row("— wanted: at most 2 x idle and a step of the flood, ms", "priority.wanted_ms"),
    Row("— 99th percentile, ms", "priority.flood_p99_ms", "priority.idle_p99_ms"),
    Row("— meanwhile the flood's words/s", "priority.flood_words_s"),
    Row("priority -5, as the flood: median, ms", "priority.control_p50_ms", "priority.idle_p50_ms"),
    Row("— 99th percentile, ms", "priority.control_p99_ms", "priority.idle_p99_ms"),
    Row("— meanwhile the flood's words/s", "priority.control_words_s"),
)

ENGINES = (
    Row("one word a call, 1 in flight: median, ms", "engines2.unary.p50_ms_1", "unary.p50_ms_1"),
    Row("one word a call, 64 in flight: calls/s", "engines2.unary.rps_64", "unary.rps_64"),
    Row("— 99th percentile, ms", "engines2.unary.p99_ms_64", "unary.p99_ms_64"),
    Row("— server CPU, µs a call", "engines2.unary.cpu_us_64", "unary.cpu_us_64"),
    Row("one word a call, 256 in flight: calls/s", "engines2.unary.rps_256", "unary.rps_256"),
    Row("32 words a call, 16 in flight: words/s", "engines2.list32.words_s", "list32.words_s"),
    Row("256 words a call, 16 in flight: words/s", "engines2.list256.words_s", "list256.words_s"),
)

BATCHES = (
    Row("one word a call, 64 in flight: calls/s", "unary.rps_64", "baseline.rps_64"),
    Row("— median, ms", "unary.p50_ms_64", "baseline.p50_ms_64"),
    Row("— 99th percentile, ms", "unary.p99_ms_64", "baseline.p99_ms_64"),
    Row("— server CPU, µs a call", "unary.cpu_us_64", "baseline.cpu_us_64"),
    Row("32 words a call, 16 in flight: words/s", "list32.words_s", "baseline.list32.words_s"),
    Row("95 % short, 5 % of 200 steps, 256 in flight: calls/s", "mix.rps", "mix.baseline_rps"),
    Row("— open loop at 60 % of whole batches' calls/s: planned calls/s", "mix.planned_rps"),
    Row("— median of the short ones, ms", "mix.short_p50_ms", "mix.baseline_short_p50_ms"),
    Row("— 99th percentile of the short ones, ms", "mix.short_p99_ms", "mix.baseline_short_p99_ms"),
)

KINDS = (
    Row("beam of 1: calls/s", "beam1.rps_64", "unary.rps_64"),
    Row("beam of 5: calls/s", "beam5.rps_64", "unary.rps_64"),
    Row("— median, ms", "beam5.p50_ms_64", "unary.p50_ms_64"),
    Row("— server CPU, µs a call", "beam5.cpu_us_64", "unary.cpu_us_64"),
    Row("drawn, top_p 0.9: calls/s", "sampling.rps_64", "unary.rps_64"),
    Row("— median, ms", "sampling.p50_ms_64", "unary.p50_ms_64"),
    Row("— server CPU, µs a call", "sampling.cpu_us_64", "unary.cpu_us_64"),
    Row("answer cache, every word for the first time: calls/s", "cache.cold.rps_64", "unary.rps_64"),
    Row("answer cache, every word known: calls/s", "cache.warm.rps_64", "unary.rps_64"),
    Row("— median, ms", "cache.warm.p50_ms_64", "unary.p50_ms_64"),
    Row("— server CPU, µs a call", "cache.warm.cpu_us_64", "unary.cpu_us_64"),
)

ECHOES = (
    Row("1 in flight: median, ms", "core_echo.p50_ms_1", "echo.p50_ms_1"),
    Row("— server CPU, µs a call", "core_echo.cpu_us_1", "echo.cpu_us_1"),
    Row("64 in flight: calls/s", "core_echo.rps_64", "echo.rps_64"),
    Row("— server CPU, µs a call", "core_echo.cpu_us_64", "echo.cpu_us_64"),
)

CLIENTS = (
    Row("echo: calls/s", "h2load.echo.rps_64", "echo.rps_64"),
    Row("one word a call: calls/s", "h2load.unary.rps_64", "unary.rps_64"),
    Row("— two engine processes: calls/s", "h2load.engines2.rps_64", "engines2.unary.rps_64"),
)

MOSEC = (
    Row("one process that decodes: calls/s", "h2load.unary.rps_64", "mosec.rps_64"),
    Row("two processes that decode: calls/s", "h2load.engines2.rps_64", "mosec2.rps_64"),
)

PYTRITON = (
    Row("one engine: calls/s", "h2load.unary.rps_64", "pytriton.rps_64"),
    Row("two engines: calls/s", "h2load.engines2.rps_64", "pytriton2.rps_64"),
)

NEEDED = frozenset(row.against for row in (*MOSEC, *PYTRITON))  # without which their rows say nothing


def _open(name: str) -> tuple[Row, ...]:
    return (
        Row("planned calls/s", f"{name}.planned_rps"),
        Row("— answered calls/s", f"{name}.answered_rps"),
        Row("— refused", f"{name}.refused"),
        Row("— cancelled", f"{name}.cancelled"),
        Row("— deadline over", f"{name}.expired"),
        Row("— median from the planned time, ms", f"{name}.p50_ms"),
        Row("— 99th percentile, ms", f"{name}.p99_ms"),
        Row("— of which the client sent late, 99th percentile, ms", f"{name}.sent_late_p99_ms"),
        Row("— server CPU, µs a call", f"{name}.cpu_us"),
        Row("— rows in a step, mean", f"{name}.mean_step_rows"),
    )


OPEN = tuple(row for name in ("open500", "open2000", "open4000", "open80") for row in _open(name))

# Title, what the right column is set against, the right column, and the lines.
TABLES = (
    ("Calls, against an echo", "echo", "Chairlift", CALLS),
    ("Calls, against whole batches", "whole batches", "Chairlift", BATCHES),
    ("One word a call at random moments", "", "Chairlift", OPEN),
    ("One word a call, 64 in flight: beams, draws, caches", "greedy, no cache", "Chairlift", KINDS),
    ("One word a call, 1 in flight, beside a flood of priority -5", "idle", "flood", PRIORITY),
    ("Two engine processes", "one", "two", ENGINES),
    ("An echo behind either front", "grpc.aio", "C core", ECHOES),
    ("Another client, 64 in flight", "ours", "h2load", CLIENTS),
    ("Calls, against Mosec, four words, 64 in flight, sent by h2load", "Mosec", "Chairlift", MOSEC),
    ("Calls, against PyTriton, likewise", "PyTriton", "Chairlift", PYTRITON),
)

NOTES = """\
## How it is measured

- Servers and client share the machine and its cores, over loopback and one connection. Chairlift is its
  front and one engine process, answer cache and single flight off, but where a line says otherwise. CPU
  is processor time of all processes of a server, user and system.
- A ratio divides the column before it by the one before that: Chairlift by echo, Chairlift by whole
  batches, beam, draw or cache by greedy without cache, two engines by one, a step by its matrix products.
- The rows of 256 in flight and of many words a call stand against the echo with 64 in flight and one
  message a call: its calls/s beside their words/s.
- The echo is grpc.aio on the service's event loop, without protobuf and without a model. The service's own
  front is gRPC's C core where it was compiled (`front` above), which an echo has a table of, too.
- *Whole batches* is Chairlift itself, front, graphs and rows, but for the scheduler: it collects until
  all rows are taken or one millisecond is over, steps until every sequence of the batch has ended, then
  answers (`bench/whole_batches.py`). The mix replaces 5 % of the words by ones that may not end before
  200 steps; its open loops offer both servers the same calls at the same moments, at 60 % of what whole
  batches bear.
- Closed loops send the next call when the last is answered; what happens in the first tenth of the time
  does not count. Open loops send at planned moments (Poisson) and count from them, so that their
  latencies hold what the client sent late. At rates that the server cannot bear (95 % of its closed loop
  and more) it may refuse a call or be late for its deadline of ten seconds; latencies are those of the
  answered.
- The client writes its HTTP/2 frames itself (`bench/http2.py`), since a gRPC client in Python costs as
  much as a server. Every answer, under every load, is compared with what the same word got
  alone beforehand through gRPC's own client. h2load, where it is installed, is a second opinion on the
  client: it compares nothing, and sends four words of typical lengths, one a process.
- The flood is 16 callers with 32 words a call. Who has priority waits for the step in hand at most, so beside
  any flood his word should take no more than twice its time on an idle server, and a step.
- Mosec, where it is installed, is a server of others: HTTP and JSON, a front in Rust, whole batches of at
  most as many words as there are rows, one millisecond to collect them, and in its processes the same
  engine (`bench/mosec_server.py`). PyTriton likewise: a front in C++, and the same engine in a process of
  Python, in a thread each where there are two (`bench/pytriton_server.py`).
- Without a server: the service's scheduler and engine, with ids in and ids out. *Its matrix products* is
  a graph of nothing but the decoder's products, of the same shapes, in ONNX Runtime. The *plain loop*
  is `quantize_dynamic` of the fp32 graphs, batches sorted by length, stepped until all have ended
  (`bench/plain_loop.py`); what it answers depends on what shares a batch.
- The words are the same in every part: made up of syllables, or from a file.
"""
