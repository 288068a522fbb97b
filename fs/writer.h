/*
 * writer: what appends to a partition through one open handle: text comes in, record sets go out.
 *
 * Each complete line is a record. A line without its newline waits in the writer, by who owns the descriptor (FUSE's lock owner, one for all
 * threads of a process), until the newline comes or that owner closes (FLUSH); so processes that share an open file never mix within a line.
 *
 *   WRITE    the complete lines, with the unfinished one before them, are appended; answered with what the append says. Only then is what it consumed
 *            dropped and its own unfinished line kept: a WRITE that failed has changed nothing.
 *   FLUSH    the owner's unfinished line is appended. If that fails it is kept.
 *   FSYNC    what was appended is made durable; unfinished lines are not touched.
 *   RELEASE  all unfinished lines are appended; nobody is left to be told of an error, so it is logged.
 *
 * A line that is too large is refused with EMSGSIZE. What an earlier WRITE has left of it is dropped, so that no torn line can become a message; the same
 * bytes are refused again if they come once more, since the kernel keeps the first error to itself where the write(2) had written something before.
 *
 * With linger.ms small writes gather in the handle. They are appended when the time is over, when 64 KiB are there, and at FSYNC, FLUSH and RELEASE. If that
 * fails they stay, and whatever comes next tries again and says how it went.
 *
 * Each of these is an operation; a writer has one under way, the others wait in its queue. An operation goes through stages:
 *
 *   BUILD   its record set is made
 *   APPEND  deliver_append, whoever leads; skipped where the set is empty
 *   SYNC    partition_flush, or what stands for it where another broker leads; for FSYNC and on handles opened O_SYNC or O_DSYNC
 *   FINISH  the writer's state follows, the next operation becomes the one under way, the request is answered
 *
 * Where a stage ends on another thread, that thread drives on.
 *
 * thread: any. locks: a writer's mutex, then the lot's.
 */
#ifndef FS_WRITER_H
#define FS_WRITER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fs/parked.h"
#include "store/timer.h"

struct broker;
struct conf;
struct deliver;
struct partition;
struct pool;
struct write_op;
struct writer;

struct writers { /* what all writers of a mount share */
	struct pool *pool;          /* borrowed */
	struct timer_heap *timers;  /* borrowed */
	struct deliver *deliver;    /* borrowed */
	struct parking parking;
	pthread_mutex_t lock;
	pthread_cond_t none;        /* live or unanswered is 0 */
	struct write_op *spare;     /* operations with their memory, last used first */
	unsigned spares, least_spares; /* least: since the timer last fired */
	unsigned live;              /* writers, until their last append is done */
	unsigned unanswered;        /* operations that a request waits for */
	struct timer timer;
	_Atomic bool armed;
	_Atomic bool stopping;      /* files that are closed from here on were not closed by those who have them open */
};

void writers_init(struct writers *ws, struct broker *b, struct deliver *dl, const struct conf *conf);
void writers_settle(struct writers *ws);  /* waits until every request was answered; no new ones come */
void writers_release(struct writers *ws); /* waits until no writer is left */

/* p: borrowed until `gone` (writer_end), and acquired, if it has a replica here. sync: O_SYNC or O_DSYNC. NULL: no memory. */
struct writer *writer_new(struct writers *ws, struct partition *p, bool sync);

/* Each answers req, maybe later and on another thread. text is borrowed during the call. */
void writer_write(struct writer *w, fuse_req_t req, uint64_t owner, const char *text, size_t n);
void writer_flush(struct writer *w, fuse_req_t req, uint64_t owner);
void writer_fsync(struct writer *w, fuse_req_t req);

/* RELEASE: ends what is unfinished. `gone` is called, maybe later and by another thread, when p is not used any more. */
void writer_end(struct writer *w, void (*gone)(void *arg), void *arg);

#endif
