#include "fs/stream.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "cluster/partition.h"
#include "fs/ops.h"
#include "store/diag.h"

enum { MOST_BYTES = 1 << 20, MORE_BYTES = 1 << 20, LOG_MS = 5000 };

struct stream {
	struct partition *p; /* borrowed */
	pthread_mutex_t lock;
	struct partition_sequence *sequence;
	_Atomic int64_t given; /* bytes */
	_Atomic int64_t next;  /* the offset behind what was given; -1 before the first READ */
	_Atomic unsigned refs; /* the handle's, and one for each READ */
	void (*gone)(void *arg);
	void *arg;
};

struct stream *stream_new(struct partition *p)
{
	struct stream *s = malloc(sizeof *s);
	if (!s)
		return NULL;
	*s = (struct stream){.p = p, .sequence = partition_sequence_new(p), .next = -1, .refs = 1};
	if (!s->sequence) {
		free(s);
		return NULL;
	}
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

/* Who was answered may have closed the handle by now: the last that uses it frees it. */
static void unref(struct stream *s)
{
	if (atomic_fetch_sub(&s->refs, 1) != 1)
		return;
	partition_sequence_free(s->sequence);
	s->gone(s->arg);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

void stream_free(struct stream *s, void (*gone)(void *arg), void *arg)
{
	s->gone = gone;
	s->arg = arg;
	unref(s);
}

int64_t stream_size(const struct stream *s, int64_t end_offset)
{
	if (s->next < 0)
		return 0;
	return s->given + (s->next < end_offset ? MORE_BYTES : 0);
}

/* As far as there is anything; an error counts only where nothing could be read. locks: the stream's. */
static ssize_t fill(struct stream *s, char *buf, size_t n, struct err *e)
{
	size_t done = 0;
	ssize_t got = 1;
	while (done < n && got > 0) {
		got = partition_sequence_read(s->p, s->sequence, buf + done, n - done, e);
		if (got > 0)
			done += (size_t)got;
	}
	s->given += (int64_t)done;
	s->next = partition_sequence_offset(s->sequence);
	return done ? (ssize_t)done : got;
}

static void reply_error(struct stream *s, fuse_req_t req, const struct err *e)
{
	static struct diag_limit limit;
	if (e->code == ERR_OUT_OF_RANGE) {
		diag_limited(&limit, LOG_MS, DIAG_NOTICE, "%s/%d: a reader was overtaken by retention: %s", partition_topic_name(s->p), (int)partition_index(s->p), e->text);
		fuse_reply_err(req, ESTALE);
	} else
		fuse_reply_err(req, ops_explain("cannot read", s->p, e));
}

void stream_read(struct stream *s, fuse_req_t req, int64_t at, size_t size)
{
	struct err e = ERR_INIT;
	size = size < MOST_BYTES ? size : MOST_BYTES;
	char *buf = malloc(size);
	if (!buf) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	atomic_fetch_add(&s->refs, 1);
	pthread_mutex_lock(&s->lock);
	bool here = at == s->given;
	ssize_t got = here ? fill(s, buf, size, &e) : 0;
	pthread_mutex_unlock(&s->lock);
	if (!here)
		fuse_reply_err(req, ESPIPE);
	else if (got < 0)
		reply_error(s, req, &e);
	else
		fuse_reply_buf(req, buf, (size_t)got);
	unref(s);
	free(buf);
}
