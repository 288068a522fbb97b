/*
 * state: what a brain holds. Included by cluster/control alone.
 *
 *   brokers     rows by id, for every broker that was ever heard of; never freed before the brain
 *   topics      rows by number; a row is used again when its topic is gone
 *   parts       one flat table of partitions; a topic has a list of its rows. What is to be done about partitions is a set of bits over that table: to set one costs nothing and is idempotent
 *
 * A topic's life:
 *
 *   NEW        asked for; its first multi is not written yet            -> LIVE
 *   LIVE       its node is there                                        -> DELETING
 *   DELETING   marked, or to be marked; nothing of it is decided any more. Brokers are told to delete it; when all that are alive have, its nodes go -> GONE
 *   GONE       has no name; the row waits until every broker's metadata knows
 *
 * A partition's, within a live topic: without a state node it has no leader yet, and nobody is told of it. `leader` ... `isr` are as in that node.
 */
#ifndef CLUSTER_CONTROL_STATE_H
#define CLUSTER_CONTROL_STATE_H

#include "cluster/control/brain.h"
#include "cluster/control/ids.h"
#include "cluster/wire/errors.h"

enum { NO_LEADER = -1, LEADER_DURING_DELETE = -2, EPOCH_DURING_DELETE = -2 };

/* ---- sets of partitions ---- */

struct bits { uint64_t *w; }; /* as many as the table has room for */

static inline bool bits_has(const struct bits *s, int32_t p) { return s->w[p >> 6] >> (p & 63) & 1; }
static inline void bits_set(struct bits *s, int32_t p) { s->w[p >> 6] |= (uint64_t)1 << (p & 63); }
static inline void bits_clear(struct bits *s, int32_t p) { s->w[p >> 6] &= ~((uint64_t)1 << (p & 63)); }

/* ---- callers ---- */

/* A request that waits for its items. Owned by nobody but itself: answered and freed with its last item. */
struct call {
	struct call *next, **back; /* among all calls of the brain */
	void *ticket;
	int api_key;               /* BRAIN_TOPIC: answered with a brain_answer */
	int32_t left;              /* items that are not decided, and one while it is being made */
	bool all;                  /* an election of all partitions: tells only of those that needed one */
	struct call *with;         /* waits for the same topic */
	struct arena arena;
	void *response;
};

enum item_kind { ITEM_ALTER, ITEM_REASSIGN, ITEM_ELECT, ITEM_KINDS };

/* What a caller wants of one partition. */
struct item {
	struct call *call; /* NULL: nobody waits (an election of our own) */
	void *result;      /* the partition's struct in the call's response */
	struct ids *wanted;/* ALTER: the ISR; REASSIGN: the replicas, NULL to cancel */
	int32_t leader_epoch, partition_epoch, broker; /* ALTER: as the leader knew them, and who it is */
	bool recovering;
	bool unclean;      /* ELECT: else the preferred leader */
	bool keeps_factor; /* REASSIGN: the replication factor must stay */
};

/* ---- rows ---- */

struct log_end { int32_t broker, epoch; int64_t offset; bool known; };

struct part {
	int32_t topic, number; /* topic -1: the row is free */
	struct ids *replicas, *adding, *removing;
	struct ids *isr;
	int32_t leader, leader_epoch, controller_epoch, version;
	bool recovering;
	bool exists, has_node;        /* its state, the directory that is in */
	struct item *item[ITEM_KINDS];
	struct log_end *end;          /* of the ISR's members, in its order, while they are being asked */
	int32_t sealed;               /* by its leader, in the leader epoch before this number; 0: it is not */
	int64_t waits_since_ms;       /* for members that may come back clean; -1: it does not */
};

enum topic_phase { TOPIC_NEW, TOPIC_LIVE, TOPIC_DELETING, TOPIC_GONE };

struct topic {
	char *name;             /* NULL: the row is free */
	uint8_t id[16];
	enum topic_phase phase;
	int32_t *part;          /* rows, by number */
	int32_t parts;
	int32_t version;
	bool has_partitions_node, has_config, marked;
	bool id_is_new;         /* none was written: version 3 of the node is */
	int8_t unclean;         /* -1: as the default */
	int32_t grows_from;     /* partitions from here on are not in the node yet; == parts: none */
	int32_t stops;          /* that brokers have not answered */
	struct op_config *config; /* NEW: to be written; owned, strings too */
	int32_t configs;
	int32_t seals;          /* of those: partitions that are to be sealed */
	int16_t seal_error;     /* why not all could be */
	struct call *create, *grow, *delete, *empty; /* who waits: lists by `with`; empty: for the seals, to delete it then */
	int32_t next_name, next_id; /* in the same slot of the tables by name and by id; -1: the last */
};

struct stop {
	int32_t topic, number, leader_epoch;
	bool deletes, sent;
	enum stop_seal seal;    /* nothing is stopped */
};

enum under_way { NOTHING, STOP, LEADER_AND_ISR, METADATA, LOG_ENDS };

struct broker {
	int32_t id;
	int64_t epoch;
	bool registered, unclean, leaving;
	bool fenced;            /* dead, whatever is registered: as the ledger says of this epoch */
	bool held;              /* nothing but metadata before what it was in before is decided */
	char *rack;
	struct brain_endpoint *endpoint; /* owned, strings too */
	size_t endpoints;
	uint64_t proved;        /* the last stamp of a request that it answered */
	struct brain_ledger ledger;
	int32_t ledger_version; /* -1: there is none */
	bool fence_wanted;      /* refuses connections: to be written */
	bool deaf;              /* says that it is another registration already, of which nothing is known here yet */
	bool born_in_batch;     /* registered while what is under way was decided without it */
	struct call *shutdown;  /* waits for what is left */
	/* To be told, and under way: */
	struct bits lost;       /* was a member of that ISR before this registration; not decided yet */
	struct bits offline;    /* the replica's disk has failed */
	struct bits fresh;      /* the replica is new there */
	struct bits states, states_sent, metadata, metadata_sent, ends, ends_sent;
	bool states_full, metadata_full, brokers_changed;
	enum under_way under_way;
	bool full_sent, brokers_sent;
	uint64_t stamp_sent;
	struct stop *stop;
	int32_t stops, stops_cap;
};

/* What is written by an op, and put in place by brain_written. */
enum change_kind { CHANGE_STATE, CHANGE_TOPIC, CHANGE_CREATED, CHANGE_MARKED, CHANGE_DELETED, CHANGE_LEDGER };
struct change {
	enum change_kind kind;
	int32_t part, topic, broker;
	int32_t parts;         /* of the topic, in its node */
	int32_t leader, leader_epoch;
	struct ids *isr, *replicas, *adding, *removing; /* owned; replicas NULL: the assignment stays */
	bool recovering, settles;
	bool keeps_epoch;      /* the leader's own change of the ISR */
	bool serves[ITEM_KINDS]; /* the items that this answers */
	struct brain_ledger ledger;
};

struct brain {
	struct brain_options o;
	struct err err;         /* code: it has failed */
	char said[600];         /* why the last request about a topic was refused */
	struct broker *broker;  /* by id, rising */
	int32_t brokers, brokers_cap;
	struct topic *topic;
	int32_t topics, topics_cap, free_topics; /* rows in use or free; the list of free ones by next_name, -1: empty */
	int32_t *by_name, *by_id, slots;         /* hashed; powers of two */
	int32_t gone;           /* topics in GONE */
	char **config_left;     /* topics that are gone and have a config node; owned */
	size_t configs_left, configs_left_cap;
	struct part *part;
	int32_t parts, parts_cap;
	int32_t *free_part;
	int32_t free_parts;
	struct bits dirty;      /* to be looked at */
	struct bits doubted;    /* wait for a broker to prove that it is alive */
	struct bits topic_work; /* by topic: to be created, grown, marked or deleted; has its own size */
	int32_t topic_work_cap;
	uint64_t stamp, doubt;  /* who has answered nothing since `doubt` is not taken for alive */
	struct call *calls;
	int64_t now_ms, next_balance_ms, next_wait_ms;
	bool started;
	/* The batch under way: */
	bool writing;
	struct op *op;
	size_t ops, ops_cap;
	struct brain_multi *multi;
	size_t multis, multis_cap;
	struct change *change;
	size_t changes, changes_cap;
	struct arena batch;     /* what ops point to */
};

/* state.c */
bool brain_ok(struct brain *b);                              /* may go on */
void *brain_need(struct brain *b, void *p);                  /* p; NULL fails the brain */
bool brain_grow(struct brain *b, void *array, size_t element, size_t want, size_t *cap);
void brain_fail(struct brain *b, int code, const char *text);

struct broker *broker_find(const struct brain *b, int32_t id);
struct broker *broker_row(struct brain *b, int32_t id);      /* made if it is not there; NULL: failed */
static inline bool broker_alive(const struct broker *r) { return r && r->registered && !r->fenced; }
/* Has shown that it is alive since the last doubt. */
static inline bool broker_proved(const struct brain *b, const struct broker *r) { return r->id == b->o.self || r->proved >= b->doubt; }
void broker_release(struct broker *r);
void broker_has_proved(struct brain *b, struct broker *r, uint64_t stamp); /* that it was alive then */

int32_t topic_by_name(const struct brain *b, const char *name, size_t n); /* -1. Not those that are GONE */
int32_t topic_by_id(const struct brain *b, const uint8_t id[16]);
/* A new row in both tables, with rows for its partitions; -1: failed. */
int32_t topic_add(struct brain *b, const char *name, const uint8_t id[16], int32_t parts);
bool topic_add_parts(struct brain *b, int32_t t, int32_t n);
void topic_forget_name(struct brain *b, int32_t t);          /* others may have it now */
void topic_free(struct brain *b, int32_t t);
void topic_wants_work(struct brain *b, int32_t t);
struct part *part_find(const struct brain *b, int32_t t, int32_t number); /* NULL */
static inline int32_t part_row(const struct brain *b, const struct part *p) { return (int32_t)(p - b->part); }
static inline struct topic *part_topic(const struct brain *b, const struct part *p) { return &b->topic[p->topic]; }
static inline bool part_is_live(const struct brain *b, const struct part *p) { return p->topic >= 0 && b->topic[p->topic].phase <= TOPIC_LIVE; }
static inline bool part_moves(const struct part *p) { return ids_n(p->adding) || ids_n(p->removing); }
void part_dirty(struct brain *b, int32_t p);
/* Every broker's metadata, and the replicas' own brokers, are told what it is now. */
void part_tell(struct brain *b, int32_t p);
/* The rows of a set. Returns how many; room for b->parts. */
int32_t bits_list(const struct brain *b, const struct bits *s, int32_t *out);
bool bits_any(const struct brain *b, const struct bits *s);
void bits_none(const struct brain *b, struct bits *s);

/* calls.c */
struct call *call_new(struct brain *b, void *ticket, int api_key); /* NULL: failed, and answered */
void call_done(struct brain *b, struct call *c);             /* one item less */
void calls_refuse(struct brain *b, struct call **all, int16_t error, const char *message); /* all that wait for a topic; empties the list */
void call_answer_topic(struct brain *b, void *ticket, int16_t error, const char *message);
struct item *item_new(struct brain *b, struct call *c, void *result);
/* Answers and frees the item, if there is one. message: a constant. */
void item_done(struct brain *b, struct part *p, enum item_kind kind, int16_t error, const char *message);
void item_drop(struct part *p, enum item_kind kind);         /* without an answer */
void item_put(struct brain *b, struct part *p, enum item_kind kind, struct item *i); /* in place of an older one */
void calls_give_up(struct brain *b);

/* decide.c */
enum standing { AWAY, LEAVING, UNCLEAN, BACK, GOOD };
enum standing replica_standing(const struct brain *b, const struct part *p, int32_t id);
bool topic_is_unclean(const struct brain *b, const struct topic *t);

struct verdict {
	bool write;
	bool waits;                /* for a proof that somebody is alive */
	bool asks;                 /* the unclean members' log ends */
	bool settles;              /* who of the ISR was lost has been decided */
	bool completes;            /* the reassignment */
	bool recovering;
	int64_t look_again_ms;     /* INT64_MAX: not by itself */
	int32_t leader;
	struct ids_room isr;
};
/* What becomes of a partition that has a state, with these replicas. moves: the replicas are others than before. */
void decide(struct brain *b, struct part *p, const struct brain_assignment *a, bool moves, struct verdict *v);
/* Of one that has none yet. write: there is a leader. */
void decide_first(struct brain *b, struct part *p, struct verdict *v);

/* reassign.c */
void target_of(const struct brain_assignment *a, struct ids_room *target);
/* What the item asks for. false: refused, with error and message. */
bool reassign_to(struct brain *b, const struct part *p, const struct item *i, struct ids_room *replicas, struct ids_room *adding, struct ids_room *removing, int16_t *error, const char **message);

/* isr.c: whether the leader's wish may be written; or its answer. */
bool alter_is_fine(struct brain *b, struct part *p, const struct item *i, int16_t *error);
void alter_answer(struct brain *b, struct part *p, int16_t error); /* with what is committed, if error is none */

/* elect.c */
void elect_look(struct brain *b, int64_t now_ms); /* for imbalance */
void elect_leave_out(struct elect_leaders_response *r);
void elect_ended(struct brain *b, struct part *p, const struct list_offsets_response_partition *r, int32_t broker);

/* brokers.c */
void brain_broker_died(struct brain *b, struct broker *r); /* it is not alive any more: everything it had a part in is looked at */
void broker_look(struct brain *b, struct broker *r);  /* held still? settled? */
void brokers_start(struct brain *b);
void brokers_told(struct brain *b);
void brokers_ask(struct brain *b);                    /* leaderships are to move: who gets one must show first that it is alive */
void shutdowns_look(struct brain *b);                 /* answers those of which nothing is left to be decided */

/* topics.c */
void topic_delete_at(struct brain *b, int32_t t, struct broker *r);
void topic_stopped(struct brain *b, int32_t t);
void topic_sealed(struct brain *b, int32_t t, int32_t number, int16_t error);
void seals_look(struct brain *b);                     /* deletes topics that are sealed, unseals those that cannot be */
void topic_marked(struct brain *b, int32_t t);
void topics_look(struct brain *b);                    /* answers who waits for what is done, frees rows of topics that are gone */
bool config_take_left(struct brain *b, const char *topic); /* brain.c: whether there is a config node of that name; it belongs to the topic from now on */

/* requests.c */
void stop_add(struct brain *b, struct broker *r, const struct part *p, bool deletes);
void seal_add(struct brain *b, struct broker *r, const struct part *p, enum stop_seal what);
void requests_forget(struct brain *b, struct broker *r);

#endif
