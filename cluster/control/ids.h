/*
 * ids: lists of broker ids. One that was made is never changed, but replaced; it has one owner. NULL is the empty list.
 *
 * thread: any.
 */
#ifndef CLUSTER_CONTROL_IDS_H
#define CLUSTER_CONTROL_IDS_H

#include <stdlib.h>
#include <string.h>

#include "cluster/control/brain.h"

static inline int32_t ids_n(const struct ids *l) { return l ? l->n : 0; }

static inline int32_t ids_first(const struct ids *l) { return ids_n(l) ? l->v[0] : -1; }

static inline bool ids_has_n(const int32_t *v, int32_t n, int32_t id)
{
	for (int32_t i = 0; i < n; i++) {
		if (v[i] == id)
			return true;
	}
	return false;
}

static inline bool ids_has(const struct ids *l, int32_t id) { return l && ids_has_n(l->v, l->n, id); }

static inline bool ids_same(const struct ids *a, const struct ids *b)
{
	return ids_n(a) == ids_n(b) && (!ids_n(a) || memcmp(a->v, b->v, (size_t)a->n * sizeof *a->v) == 0);
}

/* Owned by the caller. NULL: no memory. A list of none is one, not NULL. v NULL: the content is still to come. */
static inline struct ids *ids_make(const int32_t *v, int32_t n)
{
	struct ids *l = malloc(sizeof *l + (size_t)n * sizeof *v);
	if (!l)
		return NULL;
	l->n = n;
	if (n && v)
		memcpy(l->v, v, (size_t)n * sizeof *v);
	return l;
}

/* A list being made, on the stack. */
struct ids_room {
	int32_t n;
	int32_t v[BRAIN_MAX_REPLICAS];
};

/* Once each. */
static inline void ids_add(struct ids_room *r, int32_t id)
{
	if (r->n < BRAIN_MAX_REPLICAS && !ids_has_n(r->v, r->n, id))
		r->v[r->n++] = id;
}

static inline bool ids_same_room(const struct ids *a, const struct ids_room *r)
{
	return ids_n(a) == r->n && (!r->n || memcmp(a->v, r->v, (size_t)r->n * sizeof *r->v) == 0);
}

#endif
