/* A call over the C core of gRPC, from its arrival until it is freed, and the events that Python hears of it.
 *
 * A call: ARRIVED with its method and first message, for which the core waits where it knows the method; READ, each
 * time one more was asked for; SENT, when a message of a stream has left; GONE, if it ended otherwise than by our
 * status. It is freed once Python has ended it (`calls_finish`, `calls_leave`, `calls_reset`) and the core has completed
 * all that was started.
 */
#pragma once

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>

#define REQUESTED 64      /* calls of a method that the core may hand over before one is asked for again */

enum Kind { ARRIVED, READ, SENT, GONE, STOPPED };

/* What Python reads of an event, followed by the message. */
typedef struct {
  uint64_t call;
  double deadline; /* seconds of the monotonic clock; infinity: none */
  int32_t kind;
  int32_t method;        /* its number among those that were named; -1: none of them */
  int64_t message_bytes; /* -1: none */
} Event;

typedef struct {
  uint8_t *bytes;
  size_t used, size;
} Buffer;

typedef struct {
  const char *bytes;
  int64_t count;
} Text;

typedef struct {
  Text key, value;
} Pair;

typedef struct Server {
  grpc_server *core;
  grpc_completion_queue *queue;
  pthread_t thread;
  pthread_mutex_t lock; /* of `events` */
  Buffer events, taken;
  int wake; /* an eventfd */
  int niceness;
  int32_t method_count;
  void **methods; /* the core's handles, by number */
  int64_t alive; /* calls that are not freed, those asked for included */
} Server;

typedef struct Call Call;

/* What the core hands back when something that was started is complete. */
typedef struct {
  enum { REQUEST, NEXT, SEND, CLOSE, FINISH, SHUTDOWN } of;
  Call *call;
} Tag;

struct Call {
  Server *server;
  grpc_call *core;
  int32_t method;
  grpc_call_details details; /* of a method that was not named */
  gpr_timespec deadline;     /* of one that was */
  grpc_metadata_array metadata;
  grpc_byte_buffer *message;
  int cancelled; /* what the core says in the end */
  int greeted;   /* its initial metadata are sent */
  int holders;   /* Python, and what is not complete */
  Tag request, next, close, send, finish;
};

static void *require(void *memory) {
  if (!memory) abort(); /* as the core itself does */
  return memory;
}

static void append(Buffer *buffer, const void *bytes, size_t count) {
  if (buffer->used + count > buffer->size) {
    buffer->size = 2 * (buffer->used + count);
    buffer->bytes = require(realloc(buffer->bytes, buffer->size));
  }
  memcpy(buffer->bytes + buffer->used, bytes, count);
  buffer->used += count;
}

static void tell(Server *server, Event event, grpc_byte_buffer *message) {
  pthread_mutex_lock(&server->lock);
  int first = server->events.used == 0;
  append(&server->events, &event, sizeof event);
  if (message) {
    grpc_byte_buffer_reader reader;
    grpc_slice slice;
    grpc_byte_buffer_reader_init(&reader, message);
    while (grpc_byte_buffer_reader_next(&reader, &slice)) {
      append(&server->events, GRPC_SLICE_START_PTR(slice), GRPC_SLICE_LENGTH(slice));
      grpc_slice_unref(slice);
    }
    grpc_byte_buffer_reader_destroy(&reader);
  }
  pthread_mutex_unlock(&server->lock);
  if (first) eventfd_write(server->wake, 1);
}

static double seconds(gpr_timespec time) {
  time = gpr_convert_clock_type(time, GPR_CLOCK_MONOTONIC);
  if (gpr_time_cmp(time, gpr_inf_future(GPR_CLOCK_MONOTONIC)) == 0) return 1.0 / 0.0;
  return (double)time.tv_sec + 1e-9 * time.tv_nsec;
}

/* Tells of a call, with the message that it holds. From then on Python may ask for the next one, or end the call. */
static void tell_of(Call *call, enum Kind kind) {
  grpc_byte_buffer *message = call->message;
  Event event = {
      .call = (uint64_t)(uintptr_t)call,
      .deadline = seconds(call->method < 0 ? call->details.deadline : call->deadline),
      .kind = kind,
      .method = call->method,
      .message_bytes = message ? (int64_t)grpc_byte_buffer_length(message) : -1,
  };
  call->message = NULL;
  tell(call->server, event, message);
  if (message) grpc_byte_buffer_destroy(message);
}

static void release(Call *call) {
  if (__atomic_sub_fetch(&call->holders, 1, __ATOMIC_ACQ_REL)) return;
  if (call->message) grpc_byte_buffer_destroy(call->message);
  if (call->core) grpc_call_unref(call->core);
  grpc_call_details_destroy(&call->details);
  grpc_metadata_array_destroy(&call->metadata);
  __atomic_sub_fetch(&call->server->alive, 1, __ATOMIC_RELAXED);
  free(call);
}

static void request_call(Server *server, int32_t method) {
  Call *call = require(calloc(1, sizeof *call));
  call->server = server;
  call->method = method;
  call->holders = 1;
  __atomic_add_fetch(&server->alive, 1, __ATOMIC_RELAXED);
  call->request = (Tag){REQUEST, call}, call->next = (Tag){NEXT, call}, call->close = (Tag){CLOSE, call};
  call->send = (Tag){SEND, call}, call->finish = (Tag){FINISH, call};
  grpc_call_details_init(&call->details);
  grpc_metadata_array_init(&call->metadata);
  grpc_call_error error =
      method < 0 ? grpc_server_request_call(server->core, &call->core, &call->details, &call->metadata,
                                            server->queue, server->queue, &call->request)
                 : grpc_server_request_registered_call(server->core, server->methods[method], &call->core,
                                                       &call->deadline, &call->metadata, &call->message,
                                                       server->queue, server->queue, &call->request);
  if (error != GRPC_CALL_OK) release(call);
}

/* Starts operations; false if the core takes none of them. */
static int start(Call *call, const grpc_op *operations, size_t count, Tag *tag) {
  __atomic_add_fetch(&call->holders, 1, __ATOMIC_ACQ_REL);
  int taken = grpc_call_start_batch(call->core, operations, count, tag, NULL) == GRPC_CALL_OK;
  if (!taken) release(call);
  return taken;
}

static void arrive(Call *call) {
  grpc_op close = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER, .data.recv_close_on_server.cancelled = &call->cancelled};
  start(call, &close, 1, &call->close);
  tell_of(call, ARRIVED);
}

/* What the core has completed becomes an event, or the next operation. */
static void complete(Server *server, Tag *tag, int success) {
  Call *call = tag->call;
  switch (tag->of) {
    case REQUEST:
      if (!success) { /* the server stops */
        release(call);
        return;
      }
      request_call(server, call->method);
      arrive(call);
      return;
    case NEXT:
      tell_of(call, READ);
      break;
    case SEND:
      tell_of(call, SENT);
      break;
    case CLOSE:
      if (call->cancelled) tell_of(call, GONE);
      break;
    case FINISH:
      break;
    case SHUTDOWN:
      tell(server, (Event){0, 0, STOPPED, -1, -1}, NULL);
      free(tag);
      return;
  }
  release(call);
}

/* Takes what the core has completed, until its queue is shut down. */
static void drain(Server *server) {
  for (;;) {
    grpc_event event = grpc_completion_queue_next(server->queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
    if (event.type == GRPC_QUEUE_SHUTDOWN) return;
    complete(server, event.tag, event.success);
  }
}
