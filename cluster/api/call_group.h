/*
 * call_group: strings between messages (struct wire_string) and the coordinator (struct gstr). Included by cluster/api/ alone.
 */
#ifndef CLUSTER_API_CALL_GROUP_H
#define CLUSTER_API_CALL_GROUP_H

#include "cluster/api/call.h"
#include "cluster/group/coordinator.h"

/* The same bytes; null stays null. */
static inline struct gstr gstr_of(struct wire_string s)
{
	return (struct gstr){s.n > 0 ? s.s : s.n == 0 ? "" : NULL, s.n > 0 ? s.n : 0};
}

static inline struct wire_string wire_of(struct gstr s)
{
	return (struct wire_string){s.p, s.p ? s.n : -1};
}

/* "" for null, where the message has no null. */
static inline struct wire_string wire_text_of(struct gstr s)
{
	return (struct wire_string){s.p ? s.p : "", s.p ? s.n : 0};
}

/* In the call's memory, null as null. Empty where there is no memory. */
struct wire_string wire_copy(struct call *c, struct gstr s);
struct wire_bytes wire_copy_bytes(struct call *c, struct gstr s);

#endif
