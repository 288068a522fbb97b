#include "fs/locks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

struct held {
	struct held *next;
	struct lock_range r;
};

struct waiting {
	struct waiting *next;
	fuse_req_t req;
	struct lock_range want;
	int answer; /* once it is off the list: an errno, 0 */
};

struct lock_file {
	struct lock_file *next;
	uint64_t ino;
	struct held *held;
	struct waiting *first;
};

void locks_init(struct locks *l)
{
	*l = (struct locks){.files = NULL};
	pthread_mutex_init(&l->lock, NULL);
}

static void free_held(struct held *h)
{
	while (h) {
		struct held *next = h->next;
		free(h);
		h = next;
	}
}

void locks_release(struct locks *l)
{
	for (struct lock_file *f = l->files, *next; f; f = next) {
		next = f->next;
		free_held(f->held);
		free(f);
	}
	pthread_mutex_destroy(&l->lock);
}

/* locks: the mutex, for all down to "requests". NULL: there is none, or, with make, no memory. */
static struct lock_file *find_file(struct locks *l, uint64_t ino, bool make)
{
	struct lock_file *f = l->files;
	while (f && f->ino != ino)
		f = f->next;
	if (!f && make && (f = malloc(sizeof *f))) {
		*f = (struct lock_file){.next = l->files, .ino = ino};
		l->files = f;
		atomic_fetch_add(&l->count, 1);
	}
	return f;
}

static void forget_unused(struct locks *l, struct lock_file *f)
{
	if (f->held || f->first)
		return;
	struct lock_file **at = &l->files;
	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	free(f);
	atomic_fetch_sub(&l->count, 1);
}

static bool overlap(const struct lock_range *a, const struct lock_range *b)
{
	return a->start <= b->end && b->start <= a->end;
}

static const struct held *find_conflict(const struct lock_file *f, const struct lock_range *want)
{
	for (const struct held *h = f ? f->held : NULL; h; h = h->next)
		if (h->r.kind == want->kind && h->r.owner != want->owner && overlap(&h->r, want) && (h->r.type == F_WRLCK || want->type == F_WRLCK))
			return h;
	return NULL;
}

/* Cuts what the owner has in that range out of its locks. spare: for the second half of a lock that is split; used or left. */
static void cut_out(struct lock_file *f, const struct lock_range *range, struct held **spare)
{
	struct held **at = &f->held;
	while (*at) {
		struct held *h = *at;
		if (h->r.kind != range->kind || h->r.owner != range->owner || !overlap(&h->r, range)) {
			at = &h->next;
			continue;
		}
		bool before = h->r.start < range->start, behind = h->r.end > range->end;
		if (before && behind) {
			struct held *rest = *spare;
			*spare = NULL;
			*rest = (struct held){.next = h->next, .r = h->r};
			rest->r.start = range->end + 1;
			h->r.end = range->start - 1;
			h->next = rest;
			return; /* an owner's locks do not overlap each other */
		}
		if (before)
			h->r.end = range->start - 1;
		else if (behind)
			h->r.start = range->end + 1;
		else {
			*at = h->next;
			free(h);
			continue;
		}
		at = &h->next;
	}
}

/* 0, EAGAIN or ENOLCK. */
static int set(struct lock_file *f, const struct lock_range *want)
{
	struct held *add = NULL, *spare = NULL;
	if (want->type != F_UNLCK && find_conflict(f, want))
		return EAGAIN;
	if (want->type != F_UNLCK)
		add = malloc(sizeof *add);
	if (want->kind == LOCK_POSIX)
		spare = malloc(sizeof *spare);
	if ((want->type != F_UNLCK && !add) || (want->kind == LOCK_POSIX && !spare)) {
		free(add);
		free(spare);
		return ENOLCK;
	}
	cut_out(f, want, &spare);
	free(spare);
	if (add) {
		*add = (struct held){.next = f->held, .r = *want};
		f->held = add;
	}
	return 0;
}

/* Serves those who wait and can be served now; returns them, to be answered without the mutex. */
static struct waiting *serve(struct lock_file *f)
{
	struct waiting *served = NULL, **last = &served, **at = &f->first;
	while (*at) {
		struct waiting *w = *at;
		w->answer = set(f, &w->want);
		if (w->answer == EAGAIN) {
			at = &w->next;
			continue;
		}
		*at = w->next;
		w->next = NULL;
		*last = w;
		last = &w->next;
	}
	return served;
}

/* ---- requests ---- */

static void answer_all(struct waiting *w)
{
	while (w) {
		struct waiting *next = w->next;
		fuse_reply_err(w->req, w->answer);
		free(w);
		w = next;
	}
}

/* libfuse may call this for a request that has just been answered, so it is looked up, not passed. */
static void on_interrupt(fuse_req_t req, void *arg)
{
	struct locks *l = arg;
	struct waiting *found = NULL;
	pthread_mutex_lock(&l->lock);
	for (struct lock_file *f = l->files, *next; f && !found; f = next) {
		next = f->next;
		struct waiting **at = &f->first;
		while (*at && (*at)->req != req)
			at = &(*at)->next;
		found = *at;
		if (!found)
			continue;
		*at = found->next;
		forget_unused(l, f);
	}
	pthread_mutex_unlock(&l->lock);
	if (found) {
		found->next = NULL;
		found->answer = EINTR;
		answer_all(found);
	}
}

/* Parks the request, unless it can be answered by now. */
static void wait_for(struct locks *l, fuse_req_t req, uint64_t ino, const struct lock_range *want)
{
	struct waiting *w = malloc(sizeof *w);
	if (!w) {
		fuse_reply_err(req, ENOLCK);
		return;
	}
	*w = (struct waiting){.req = req, .want = *want};
	/* While on_interrupt runs from inside this call the request must not be answered: so it is listed later, and asked for then. */
	fuse_req_interrupt_func(req, on_interrupt, l);
	pthread_mutex_lock(&l->lock);
	struct lock_file *f = find_file(l, ino, true);
	int rc = !f ? ENOLCK : fuse_req_interrupted(req) ? EINTR : set(f, want);
	if (rc == EAGAIN) {
		struct waiting **at = &f->first;
		while (*at)
			at = &(*at)->next;
		*at = w;
	} else if (f)
		forget_unused(l, f);
	pthread_mutex_unlock(&l->lock);
	if (rc != EAGAIN) {
		free(w);
		fuse_reply_err(req, rc);
	}
}

void locks_set(struct locks *l, fuse_req_t req, uint64_t ino, const struct lock_range *want, bool wait)
{
	struct waiting *served = NULL;
	struct held *none = NULL;
	pthread_mutex_lock(&l->lock);
	struct lock_file *f = find_file(l, ino, want->type != F_UNLCK);
	int rc = f ? set(f, want) : want->type == F_UNLCK ? 0 : ENOLCK;
	if (rc == EAGAIN && want->kind == LOCK_FLOCK)
		cut_out(f, want, &none); /* flock(2) changes a lock by giving up the old one first: two that share one and both want it alone must not wait for each other */
	if (f) {
		served = serve(f); /* for a lock that was weakened, or is gone */
		forget_unused(l, f);
	}
	pthread_mutex_unlock(&l->lock);
	answer_all(served);
	if (rc == EAGAIN && wait)
		wait_for(l, req, ino, want);
	else
		fuse_reply_err(req, rc);
}

void locks_test(struct locks *l, fuse_req_t req, uint64_t ino, const struct lock_range *want)
{
	struct flock answer = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
	pthread_mutex_lock(&l->lock);
	const struct held *h = find_conflict(find_file(l, ino, false), want);
	if (h) {
		answer.l_type = h->r.type;
		answer.l_start = h->r.start;
		answer.l_len = h->r.end == INT64_MAX ? 0 : h->r.end - h->r.start + 1;
		answer.l_pid = h->r.pid;
	}
	pthread_mutex_unlock(&l->lock);
	fuse_reply_lock(req, &answer);
}

void locks_drop(struct locks *l, uint64_t ino, enum lock_kind kind, uint64_t owner, uint64_t handle)
{
	struct waiting *served = NULL;
	if (!atomic_load_explicit(&l->count, memory_order_acquire))
		return;
	pthread_mutex_lock(&l->lock);
	struct lock_file *f = find_file(l, ino, false);
	if (f) {
		for (struct held **at = &f->held; *at;) {
			struct held *h = *at;
			bool mine = h->r.kind == kind && (handle ? h->r.handle == handle : h->r.owner == owner);
			if (mine) {
				*at = h->next;
				free(h);
			} else
				at = &h->next;
		}
		served = serve(f);
		forget_unused(l, f);
	}
	pthread_mutex_unlock(&l->lock);
	answer_all(served);
}

void locks_stop(struct locks *l)
{
	struct waiting *all = NULL;
	pthread_mutex_lock(&l->lock);
	for (struct lock_file *f = l->files; f; f = f->next)
		while (f->first) {
			struct waiting *w = f->first;
			f->first = w->next;
			w->answer = EINTR;
			w->next = all;
			all = w;
		}
	pthread_mutex_unlock(&l->lock);
	answer_all(all);
}
