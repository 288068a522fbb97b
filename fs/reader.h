/*
 * reader: what reads a partition through one open handle.
 *
 * Positions. A handle's positions are the view's, with two exceptions. An @earliest handle has a base: its 0 is the position at which the log
 * started when the name was looked up. And a handle whose first READ is at 0 and finds that the log's head is gone is moved: it starts
 * at the log's start. What a moved handle has returned it serves again; a READ beyond the furthest byte returned is ESTALE, for its positions are not
 * the file's. A READ below the log start is ESTALE in any case, never other bytes; but for tail -n there is fs/tail.h.
 *
 * Reading ahead. A handle that reads one full READ after the other gets blocks decoded ahead of it by the broker's pool:
 *   1. The READ that is served schedules the job, if the handle has fewer blocks than it may, and memory is left.
 *   2. The job appends blocks behind the last, each a multiple of the READ's size, until it has enough or the visible end is met.
 *   3. A READ that lies in a block is answered from it, after waiting for it if it is being filled. Any other drops them all, and reads by itself.
 *   A short block is what there was then, not the end: the READ that passes its end reads anew.
 * A handle that has not read for a second gives its blocks back.
 *
 * thread: any. locks: a reader's mutex, then the lot's (the timer takes them the other way round, but only tries the reader's).
 */
#ifndef FS_READER_H
#define FS_READER_H

#include <fuse3/fuse_lowlevel.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/pool.h"
#include "store/timer.h"

struct block;
struct broker;
struct conf;
struct partition;
struct reader;

struct readers { /* what all readers of a mount share */
	struct pool *pool;          /* borrowed */
	struct pool *remote_pool;   /* borrowed: for what may wait for other brokers */
	struct timer_heap *timers;  /* borrowed */
	pthread_mutex_t lock;
	pthread_cond_t none;        /* live is 0 */
	struct block *spare;        /* memory for blocks, last used first */
	unsigned spares, least_spares; /* least: since the timer last fired */
	unsigned ahead, ahead_max;  /* blocks that read ahead */
	unsigned live;              /* readers, until their jobs are done too */
	struct reader *streaming;   /* those that have memory for reading one READ after the other */
	struct timer timer;
	_Atomic bool armed;
};

void readers_init(struct readers *rs, struct broker *b, const struct conf *conf);
void readers_release(struct readers *rs); /* waits until none is left */

/* p: borrowed and acquired until reader_free. base: of an @earliest node, else -1. NULL: no memory. */
struct reader *reader_new(struct readers *rs, struct partition *p, int64_t base);
/* `gone` is called, maybe later and by another thread, when p is not used any more. No READ is under way. */
void reader_free(struct reader *r, void (*gone)(void *arg), void *arg);

/* How much lower the handle's positions are than those of its file: 0, but for a moved one. */
int64_t reader_moved_by(struct reader *r);

/* Answers a READ. Blocks on the disk, and on a block that is being filled. */
void reader_read(struct reader *r, fuse_req_t req, int64_t at, size_t size);

#endif
