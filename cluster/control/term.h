/*
 * term: one term of a controller, and the controller around it. Included by cluster/control alone. Everything is the queue's thread's but where it says otherwise.
 *
 * A term begins with reading everything (load.c), then it leads: changes come from watches (watch.c), writes go out (write.c). Each request to ZooKeeper holds the term; what is answered after its end
 * is dropped.
 */
#ifndef CLUSTER_CONTROL_TERM_H
#define CLUSTER_CONTROL_TERM_H

#include <pthread.h>
#include <stdatomic.h>

#include "cluster/control/controller.h"
#include "cluster/control/sender.h"
#include "cluster/zk/layout.h"

struct told { struct sender *sender; int32_t id; int64_t epoch; bool refused; };

struct controller {
	struct controller_options o;
	struct zk_listener listener;
	bool running;
	bool seeking, seek_again;   /* looking who is the controller; once more when that is done */
	int32_t epoch, epoch_version; /* of /controller_epoch, while this is the controller */
	struct term *term;          /* NULL: it is not */
	struct queue_timer again;   /* to look, or to read all, once more */
	struct queue_timer deadline;/* the brain's */
	struct told *told;          /* connections to brokers */
	size_t tolds, tolds_cap;
	_Atomic int32_t id;         /* who it is */
	pthread_mutex_t lock;       /* of what is below; a leaf */
	pthread_cond_t changed;
	size_t senders;             /* that are not gone yet */
};

struct term {
	struct controller *c;
	struct brain *b;
	size_t held;       /* by requests under way, and by the controller */
	bool over;
	struct queue_event ended; /* lets go of it behind the event that has ended it, in which it may still be looked at */
	bool leads;        /* all is read */
	int phase;         /* of reading */
	size_t pending;    /* requests of that phase */
	size_t multis;     /* of the batch under way that are not answered */
	bool refused, fenced;
	int32_t *brokers;  /* that are registered, as listed last */
	size_t n_brokers;
	int32_t newest_change; /* number of the newest notification in /config/changes */
	bool looks[5];     /* listings under way, see watch.c */
};

/* controller.c */
struct term *term_hold(struct term *t);
bool term_drop(struct term *t);        /* for a request that is answered. false: the term is over (and may be gone). Else it stays during this event, also if it ends in it */
void term_pump(struct term *t);        /* after anything has happened */
void term_failed(struct term *t, const char *what, const struct err *e); /* all is read again, by a new term of the same controller */
void term_fenced(struct term *t);      /* there is another controller */
void term_broker(struct term *t, int32_t id, int64_t epoch, const char *host, int32_t port); /* is to be talked to at that address */
void term_broker_gone(struct term *t, int32_t id);

/* load.c */
void term_load(struct term *t);
/* What nodes say, to the brain; watches too. arg of the requests: the term, held. */
bool load_broker(struct term *t, const struct zk_result *r, bool starting);
bool load_topic(struct term *t, const struct zk_result *r, bool starting);
void load_config(struct term *t, const struct zk_result *r);
void load_numbers(const struct zk_result *r, int32_t **v, size_t *n); /* children that are numbers; *v is the caller's */

/* watch.c */
void term_watch(struct term *t);
void term_changed(struct term *t, enum zk_change what, const char *path);

/* write.c */
bool term_write(struct term *t); /* the brain's next batch, if there is one */
void term_delete(struct term *t, const char *path); /* a notification that has been read, a mark that is left over: if this is still the controller */
void term_delete_mark(struct term *t, const char *topic);

#endif
