/* A gRPC server over the C core of gRPC (libgrpc), whose calls reach Python as batches of events.
 *
 * Knows nothing of services, texts or event loops. One thread takes what the core has completed and writes it into
 * a buffer; an eventfd says that there is something, and whoever reads takes all at once. So a call costs one
 * record, not a wake-up and a turn of the event loop for each of its operations.
 *
 * calls.h: what becomes of a call. service/core_server.py is the only user; the structures here and there are the same.
 */
#include "calls.h"

#define KEPT_BYTES 262144 /* of a buffer that was taken */

static void *serve(void *of) {
  Server *server = of;
  setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), getpriority(PRIO_PROCESS, 0) + server->niceness);
  drain(server);
  return NULL;
}

static int64_t destroy(Server *server) {
  int64_t lost = server->alive;
  grpc_server_destroy(server->core);
  grpc_completion_queue_destroy(server->queue);
  close(server->wake);
  free(server->methods);
  free(server->events.bytes);
  free(server->taken.bytes);
  pthread_mutex_destroy(&server->lock);
  free(server);
  grpc_shutdown();
  return lost;
}

/* Closes the port, and tells clients to go elsewhere; STOPPED follows, once all calls have ended. */
void calls_stop(Server *server) {
  Tag *tag = require(calloc(1, sizeof *tag));
  tag->of = SHUTDOWN;
  grpc_server_shutdown_and_notify(server->core, server->queue, tag);
}

/* A server of `methods`, as in "/package.Service/Method", that listens at `address`, with the channel arguments `names`
 * and `values`; its thread's priority is `niceness` behind the caller's. Its port goes to `port`. NULL: cannot be
 * bound. */
Server *calls_open(const char *address, const char *const *methods, int32_t method_count, const char *const *names,
                   const int32_t *values, int64_t count, int32_t niceness, int32_t *port) {
  grpc_arg arguments[count];
  for (int64_t i = 0; i < count; i++)
    arguments[i] = (grpc_arg){GRPC_ARG_INTEGER, (char *)names[i], {.integer = values[i]}};
  grpc_channel_args all = {(size_t)count, arguments};
  grpc_init();
  Server *server = require(calloc(1, sizeof *server));
  server->niceness = niceness;
  server->core = grpc_server_create(&all, NULL);
  server->queue = grpc_completion_queue_create_for_next(NULL);
  server->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  pthread_mutex_init(&server->lock, NULL);
  grpc_server_register_completion_queue(server->core, server->queue, NULL);
  server->method_count = method_count;
  server->methods = require(calloc((size_t)method_count + 1, sizeof *server->methods));
  for (int32_t i = 0; i < method_count; i++)
    server->methods[i] =
        grpc_server_register_method(server->core, methods[i], NULL, GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
  grpc_server_credentials *plain = grpc_insecure_server_credentials_create();
  *port = grpc_server_add_http2_port(server->core, address, plain);
  grpc_server_credentials_release(plain);
  if (*port) return server;
  calls_stop(server);
  grpc_completion_queue_shutdown(server->queue);
  drain(server);
  destroy(server);
  return NULL;
}

/* Begins to take calls. Returns the descriptor that becomes readable when there are events. */
int32_t calls_start(Server *server) {
  grpc_server_start(server->core);
  for (int32_t method = -1; method < server->method_count; method++)
    for (int i = 0; i < REQUESTED; i++) request_call(server, method);
  pthread_create(&server->thread, NULL, serve, server);
  return server->wake;
}

/* All events so far: their bytes, valid until the next take. Returns how many bytes. */
int64_t calls_take(Server *server, const uint8_t **bytes) {
  eventfd_t wakes;
  eventfd_read(server->wake, &wakes);
  if (server->taken.size > KEPT_BYTES) {
    free(server->taken.bytes);
    server->taken = (Buffer){0};
  }
  pthread_mutex_lock(&server->lock);
  Buffer taken = server->events;
  server->events = server->taken;
  server->events.used = 0;
  server->taken = taken;
  pthread_mutex_unlock(&server->lock);
  *bytes = taken.bytes;
  return (int64_t)taken.used;
}

/* Asks for one more message; READ follows. False if the call takes no operation any more. */
int32_t calls_read(Call *call) {
  grpc_op read = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &call->message};
  return start(call, &read, 1, &call->next);
}

static grpc_byte_buffer *buffer_of(const uint8_t *bytes, int64_t count) {
  grpc_slice slice = grpc_slice_from_copied_buffer((const char *)bytes, (size_t)count);
  grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
  grpc_slice_unref(slice);
  return buffer;
}

static void greet(Call *call, grpc_op *operations, size_t *count) {
  if (!call->greeted) operations[(*count)++] = (grpc_op){.op = GRPC_OP_SEND_INITIAL_METADATA};
  call->greeted = 1;
}

static void say(grpc_byte_buffer *message, grpc_op *operations, size_t *count) {
  operations[(*count)++] = (grpc_op){.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = message};
}

/* Sends one message of a stream; SENT follows. False if the call takes no operation any more. */
int32_t calls_send(Call *call, const uint8_t *bytes, int64_t count) {
  grpc_op operations[2];
  size_t used = 0;
  grpc_byte_buffer *message = buffer_of(bytes, count);
  greet(call, operations, &used);
  say(message, operations, &used);
  int taken = start(call, operations, used, &call->send);
  grpc_byte_buffer_destroy(message);
  return taken;
}

/* Ends a call: with a last message, unless `count` is -1; with a status, its text and its trailing metadata. */
void calls_finish(Call *call, const uint8_t *bytes, int64_t count, int32_t code, Text text, const Pair *pairs,
                  int64_t pair_count) {
  grpc_op operations[3];
  grpc_metadata trailing[pair_count + 1];
  size_t used = 0;
  grpc_byte_buffer *message = count < 0 ? NULL : buffer_of(bytes, count);
  for (int64_t i = 0; i < pair_count; i++)
    trailing[i] = (grpc_metadata){
        .key = grpc_slice_from_copied_buffer(pairs[i].key.bytes, (size_t)pairs[i].key.count),
        .value = grpc_slice_from_copied_buffer(pairs[i].value.bytes, (size_t)pairs[i].value.count),
    };
  grpc_slice details = grpc_slice_from_copied_buffer(text.bytes, (size_t)text.count);
  greet(call, operations, &used);
  if (message) say(message, operations, &used);
  operations[used++] = (grpc_op){
      .op = GRPC_OP_SEND_STATUS_FROM_SERVER,
      .data.send_status_from_server = {(size_t)pair_count, trailing, (grpc_status_code)code, &details},
  };
  start(call, operations, used, &call->finish);
  if (message) grpc_byte_buffer_destroy(message);
  for (int64_t i = 0; i < pair_count; i++) {
    grpc_slice_unref(trailing[i].key);
    grpc_slice_unref(trailing[i].value);
  }
  grpc_slice_unref(details);
  release(call);
}

/* Ends a call that is gone: nobody is there to hear a status. */
void calls_leave(Call *call) { release(call); }

/* Ends a call whose caller reads nothing: a status would never leave. */
void calls_reset(Call *call) {
  grpc_call_cancel_with_status(call->core, GRPC_STATUS_DEADLINE_EXCEEDED, "nobody reads the answer", NULL);
  release(call);
}

/* Ends whatever still runs, as cancelled. */
void calls_cancel(Server *server) { grpc_server_cancel_all_calls(server->core); }

/* Frees everything, after STOPPED. Returns how many calls Python never ended, and are lost. */
int64_t calls_close(Server *server) {
  grpc_completion_queue_shutdown(server->queue);
  pthread_join(server->thread, NULL);
  return destroy(server);
}
