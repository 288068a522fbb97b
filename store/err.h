/*
 * err: what went wrong, as a code for programs and a sentence for people.
 *
 * Inside spoolfs a function that can fail returns 0 (or a count) or one of the negative codes below, and
 * writes the sentence into the `struct err` it was given: what failed, on which path or partition, what to
 * do. The caller owns the struct (usually on its stack); NULL means "no sentence wanted". The mapping to
 * errno stands in fs/ops.c, the one to Kafka's codes at the wire edge: nowhere else.
 *
 * thread: any; a struct err belongs to one thread at a time.
 */
#ifndef STORE_ERR_H
#define STORE_ERR_H

enum err_code {
	ERR_NONE = 0,
	ERR_IO = -1,          /* the disk failed: the outcome of a write is unknown */
	ERR_NO_SPACE = -2,    /* disk full or quota: nothing was written */
	ERR_NO_MEMORY = -3,
	ERR_CORRUPT = -4,     /* bytes that cannot be what they should be */
	ERR_INVALID = -5,     /* an argument or property value that cannot be accepted */
	ERR_TOO_LARGE = -6,   /* a message or batch over its limit */
	ERR_NOT_FOUND = -7,
	ERR_EXISTS = -8,
	ERR_OUT_OF_RANGE = -9, /* an offset or position before the log start, or past its end */
	ERR_OFFLINE = -10,    /* the partition or its log directory is out of service */
	ERR_BUSY = -11,       /* held by another process */
	ERR_DENIED = -12,     /* the operating system refuses access */
	ERR_READ_ONLY = -13,
	ERR_VERSION = -14,    /* written by a newer spoolfs or Kafka */
	ERR_NOT_EMPTY = -15,
	ERR_NAME = -16,       /* a name that Kafka would refuse */
	ERR_UNSUPPORTED = -17,
	ERR_TIMED_OUT = -18,
	ERR_INTERRUPTED = -19, /* taken back before it had any effect */
	ERR_STOPPING = -20,   /* the broker is on its way down */
	ERR_NOT_LEADER = -21,
	ERR_NOT_ENOUGH_REPLICAS = -22, /* nothing was written */
	ERR_DELETED = -23,    /* the topic was deleted while it was open */
	ERR_LIMIT = -24,      /* too many open files, mappings or threads */
	ERR_SEQUENCE = -25,   /* a batch of an idempotent producer does not follow the one before it */
	ERR_PRODUCER_FENCED = -26,     /* of a producer epoch that a newer one has taken the place of */
	ERR_TXN_STATE = -27,  /* a batch belongs to no open transaction where it should, or the other way round */
	ERR_FENCED_EPOCH = -28,  /* the leader epoch that was named is over */
	ERR_UNKNOWN_EPOCH = -29, /* it has not begun as far as is known here */
	ERR_NOT_ENOUGH_AFTER = -30, /* it is in the log, but not on as many replicas as it should be: the outcome is unknown */
	ERR_NOT_YET = -31,    /* not known yet: whoever was elected to lead has not heard from its followers */
};

struct err {
	int code;
	char text[500];
};

#define ERR_INIT {0}

/* Sets the sentence and returns `code`, so that `return err_set(...)` reads well. e: may be NULL. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The same for a failed system call: the code comes from `errnum` (positive or negative errno), the sentence ends
 * with the system's words for it. */
int err_sys(struct err *e, int errnum, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts a context in front of the sentence ("topic orders, partition 0: ..."). Returns e->code, 0 for NULL. */
int err_context(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The code that belongs to an errno (positive or negative), 0 for 0. Unknown ones are ERR_IO. */
int err_from_errno(int errnum);

/* A short name of the code, for logs and tests: "no space". Never NULL. */
const char *err_name(int code);

#endif
