/*
 * group_records: the records of __consumer_offsets (Kafka's OffsetCommitKey, OffsetCommitValue, GroupMetadataKey, GroupMetadataValue; their fields are in
 * cluster/wire/messages/consumer_offsets.h). Key and value begin with their version in 2 bytes; a key's says what it is the key of:
 *
 *    0, 1       an offset: group, topic, partition
 *    2          a group
 *    3..8, 16   something of a group of Kafka's newer protocol (KIP-848); its id comes first. 3 is the group's own, whose value begins with its epoch
 *
 * A null value is a tombstone. Kafka 4.1 writes version 4 of offsets (1 where one has an expire time of its own) and 3 of groups; every older one is read.
 *
 * thread: one at a time.
 */
#ifndef CLUSTER_GROUP_RECORDS_H
#define CLUSTER_GROUP_RECORDS_H

#include "cluster/group/group.h"
#include "cluster/wire/wire.h"

struct records { /* to be written: keys and values back to back */
	struct wire_out out;
	struct record_at { size_t key, value, end; bool tombstone; } *at; /* owned */
	size_t count, cap;
	int rc;         /* the first error: ERR_TOO_LARGE (a string that the format has no room for), ERR_NO_MEMORY. Then nothing is to be written */
	struct err err;
};
void records_init(struct records *r);
void records_release(struct records *r);
void records_offset(struct records *r, struct gstr group, struct gstr topic, const struct offset_entry *o); /* o->metadata NULL: "" */
void records_offset_gone(struct records *r, struct gstr group, struct gstr topic, int32_t partition);
/* The group as it is, and nothing else; next: with the assignments that are to be. */
void records_group(struct records *r, struct group *g, bool next);
void records_group_empty(struct records *r, struct group *g); /* as it is when it is new */
void records_group_gone(struct records *r, struct gstr group);
/* Tombstones of what Kafka's newer protocol knew of it. */
void records_newer_gone(struct records *r, struct group *g);
/* Batches of all of them; 0 or ERR_TOO_LARGE, ERR_NO_MEMORY. */
int records_build(struct records *r, const struct batch_style *style, int64_t now_ms, struct record_set *set, struct err *e);

/* ---- reading ---- */

enum record_kind { RECORD_OFFSET, RECORD_GROUP, RECORD_NEWER_GROUP, RECORD_UNKNOWN };
struct record_key { enum record_kind kind; int16_t version; struct gstr group, topic; int32_t partition; };
/* What is decoded is borrowed from bytes and arena. false: damaged. */
bool record_key_decode(struct gstr bytes, struct arena *arena, struct record_key *k);
/* Of RECORD_OFFSET. 1; 0: of a version that is not known; ERR_CORRUPT, ERR_NO_MEMORY. On 1 the metadata is the caller's. */
int record_offset_decode(struct gstr bytes, struct arena *arena, struct offset_entry *o);
/* Of RECORD_GROUP: g, new and empty, becomes what the record says. As above. */
int record_group_decode(struct gstr bytes, struct arena *arena, struct group *g);
/* Of RECORD_NEWER_GROUP with key version 3: its epoch. false: damaged. */
bool record_epoch_decode(struct gstr bytes, int32_t *epoch);

#endif
