/*
 * reactor: the structs behind net.h, for the files of this folder alone.
 *
 * Which file does what: net.c starts and stops threads, and is their loop; listen.c makes connections; conn.c reads them, hands out requests, ends
 * them; send.c takes answers and sends them; info.c tells about connections.
 *
 * What one network thread owns is marked "own"; it needs no lock. What is marked "lock" is under the connection's lock, as any
 * thread may answer and send. The rest is atomic, or does not change.
 *
 * Any thread that finds something to do for the connection's thread (a close, a pause that is over, more to send than its share) puts the
 * connection in that thread's inbox; it wakes it only if it sleeps. Nobody but that thread reads a connection, closes it or frees it.
 */
#ifndef CLUSTER_NET_REACTOR_H
#define CLUSTER_NET_REACTOR_H

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "cluster/net/block.h"
#include "cluster/net/net.h"
#include "cluster/net/sock.h"

enum {
	SCRATCH_BYTES = 64 << 10,    /* what one read takes beyond the frame under way */
	READ_TURN_BYTES = 1 << 20,   /* what one connection may receive, and send, before it is another's turn */
	READ_ONCE_BYTES = 512 << 10,
	SEND_TURN_BYTES = 1 << 20,
	FRAME_START_BYTES = 4096,    /* memory for a frame of which nothing is there yet */
	REQUEST_LEAST_BYTES = 256,   /* room behind every request, so that a short answer fits */
	SMALL_RANGE_BYTES = 32 << 10, /* a range of a file up to this is read and sent with what stands around it */
	LINGER_MS = 1000,            /* how long a connection that we ended waits for its peer to take the last answers */
	TICK_MS = 1000,
	ACCEPT_PAUSE_MS = 100,       /* after an accept that failed for want of something */
	EVENTS = 256,
	LOG_MS = 10000,              /* one message of a kind in so much time */
};

/* What an epoll event is about; stands first in what it is about. */
enum source { SOURCE_CONN, SOURCE_LISTENER, SOURCE_WAKE };

enum request_state { REQUEST_TAKEN, REQUEST_ANSWERED, REQUEST_DROPPED, REQUEST_CLOSES };

struct request {
	_Alignas(16) struct net_request pub; /* first */
	uint32_t got;           /* own: bytes of the frame that are there */
	uint32_t room;          /* own: bytes there is memory for */
	size_t block_bytes;     /* own */
	unsigned told;          /* own: a bit for each net_why */
	bool sent;              /* lock, until it is done */
	enum request_state state;      /* lock */
	struct net_response *response; /* lock; of REQUEST_ANSWERED */
	struct request *next;          /* lock: in the connection's queue; later in a list of those that are done */
	struct request *next_told;     /* own */
	struct net_response own_response; /* of net_respond_copy */
	struct net_chunk own_chunk;
	/* here room_bytes, then the frame */
};

enum conn_list { LIST_NONE, LIST_READY, LIST_STARVED };
enum verdict { VERDICT_NONE, VERDICT_END, VERDICT_BROKEN };

struct net_conn {
	enum source source; /* first */
	enum conn_list list; /* own: which of the thread's lists it is in by `link` */
	struct thread *thread;
	uint64_t id;
	int fd;             /* lock; closed by its thread alone */
	unsigned listener;
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} peer;
	void *user;

	TAILQ_ENTRY(net_conn) link; /* own */
	TAILQ_ENTRY(net_conn) age;  /* own: by active_ms */
	struct request *partial;    /* own: the frame under way */
	uint8_t prefix[4];          /* own: its length, of which prefix_got bytes are there */
	uint8_t prefix_got;
	int64_t active_ms;          /* own: when bytes last came, or it began to linger */
	bool registered;            /* own: in the epoll set and the lists */
	bool readable;              /* own: the socket may have more than was read */
	bool hung_up;               /* own: the peer's end was announced */
	bool reset;                 /* own: and it takes no answers either */
	bool ended_in;              /* own: everything before the end was read */
	bool closed;                /* own: requests are neither taken nor answered any more */
	bool lingers;               /* own: closed, but for the socket */
	uint8_t *stash;             /* own: bytes that were read and cannot be handed out yet: stash_at to stash_end of a block */
	size_t stash_at, stash_end, stash_bytes;
	unsigned held;              /* own: requests handed out and not done */
	struct net_conn *next_dead; /* own */

	pthread_mutex_t lock;
	struct request *head, **tail; /* lock: those not sent yet, in their order */
	unsigned in_flight, taken;    /* lock: all of them; those not answered */
	int64_t queued_bytes, unsent_bytes; /* lock: memory of all of them; of their answers */
	struct request *barrier;      /* lock */
	unsigned at_chunk;            /* lock: where the answer of head stands: 0 the length, then its chunks */
	uint64_t at_byte;
	enum verdict verdict;         /* lock */
	bool paused;                  /* lock: its thread waits for answers before it reads on */
	bool ends_when_idle;          /* lock */
	bool corked;                  /* lock */
	bool dead;                    /* lock: answers are thrown away */
	struct warm_up *warm_up;      /* lock: what is to be sent next is read from the disk first, in the pool; nothing is sent meanwhile */
	uint64_t warmed;              /* lock: so many bytes from there on were, and are sent whatever became of them */

	_Atomic bool is_dead;         /* the same, for a glance */
	_Atomic bool unsent;          /* set before a send, cleared when nothing is left: only then can a writable socket be worth a look */
	_Atomic bool in_inbox;
	_Atomic int64_t sent_ms;      /* when bytes were last sent */
	struct net_conn *inbox_next;
};

TAILQ_HEAD(conns, net_conn);

struct counts {
	_Atomic uint64_t accepted, requests, responses, bytes_in, bytes_out, wakes, foreign_writes;
	_Atomic uint64_t connections, held, held_bytes, queued_bytes, pooled_bytes;
};

struct thread {
	enum source wake_source; /* what wake_fd's event points to */
	struct net *net;
	unsigned index;
	int epoll, wake_fd;
	pthread_t id;
	uint8_t *scratch;
	/* own */
	struct conns open, ready, starved, lingering; /* open: longest idle first */
	struct net_conn *dead;
	struct request *done;
	struct block_pool pool;
	struct net_conn *overdraws; /* its connection that may go on though memory is short, */
	int64_t overdraws_since_ms; /* and since when */
	int64_t now_ms, trimmed_ms;
	bool stop_told;
	bool wants_tick;            /* its options' tick said so */
	/* any */
	struct net_conn *_Atomic inbox;
	struct request *_Atomic returned; /* done, by other threads */
	_Atomic bool poked;               /* it is to go through one more round before it sleeps */
	_Atomic bool awake;               /* no need to wake it */
	_Alignas(64) struct counts count;
};

struct listener {
	enum source source; /* first */
	int fd;
	unsigned index;
};

struct net {
	struct net_options o;
	struct net_settings s;
	size_t room_bytes; /* rounded up */
	struct thread *thread;
	struct listener *socket; /* several for one of s.listener whose name has several addresses */
	unsigned sockets;
	uint16_t port[NET_MAX_LISTENERS];
	unsigned running; /* threads */

	/* the first thread's */
	int reserve_fd; /* given up for a moment to turn a client away when there is no other descriptor */
	uint64_t next_id;
	bool accepting; /* the listeners are in its epoll set */
	int64_t accept_again_ms;

	_Atomic int64_t connections;
	_Atomic bool accept_full;   /* max.connections is reached: the first thread wants to know of every close */
	_Atomic int64_t queued_bytes;
	_Atomic bool starving;      /* some thread waits for queued_bytes to fall */
	_Atomic bool overdrawn;     /* some thread has one that overdraws: there is one at most */
	_Atomic int stopping;       /* enum stopping */
	_Atomic unsigned orphans;   /* requests not answered, of connections that are closed */
	_Atomic bool deaf;          /* while stopping: the listening sockets are closed, nothing more is accepted */

	pthread_mutex_t ip_lock;
	struct ip_count *ips;       /* ip_lock */

	pthread_mutex_t stop_lock;
	pthread_cond_t stop_changed; /* something may have become none, while stopping */
};

enum stopping { STOP_NO, STOP_GRACEFUL, STOP_NOW, STOP_THREADS };

extern __thread struct thread *net_this_thread;      /* of a network thread */
extern __thread struct net_conn *net_handing_out;    /* whose callback runs: its answers are gathered until the callbacks are through */

static inline void count_own(_Atomic uint64_t *c, int64_t n)
{
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + (uint64_t)n, memory_order_relaxed);
}
static inline void count_any(_Atomic uint64_t *c, uint64_t n)
{
	atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

/* net.c */
void thread_poke(struct thread *t); /* what it looks at in every round has changed */
void inbox_put(struct net_conn *c); /* locks: c's, held, and c is not dead; or nobody else knows c */
void queued_add(struct thread *t, int64_t bytes); /* thread: t */
void queued_relieve(struct net *n);               /* those that wait for memory look again */
bool net_holds_much(const struct net *n); /* the requests handed out are a good part of what memory there is: their answers will help */
int64_t net_now_ms(void);

/* listen.c */
int listen_open(struct net *n, struct err *e);
void listen_close(struct net *n);
int listen_start(struct net *n, struct err *e); /* into the first thread's epoll set */
void listen_accept(struct net *n, struct listener *l);
void listen_resume(struct net *n);          /* if it was paused and need not be any more */
void listen_forget(struct net *n, const struct net_conn *c); /* its socket is closed. thread: any network thread */

/* conn.c. thread: c's */
void conn_register(struct net_conn *c);
void conn_event(struct net_conn *c, uint32_t events);
void conn_turn(struct net_conn *c);         /* reads, hands out, sends, ends: whatever there is */
void conn_end(struct net_conn *c, bool gracefully);
void conn_tell(struct net_conn *c, enum net_why why);
void conn_linger_over(struct net_conn *c);
void conn_ready(struct net_conn *c);        /* it gets a turn in this round or the next */
void conn_expire(struct thread *t);
void conn_relieve(struct thread *t);
void conn_bury(struct thread *t);
void request_done(struct thread *t, struct request *r);

/* send.c */
bool conn_may_take(const struct net_conn *c);    /* locks: c's */
bool conn_send(struct net_conn *c);              /* thread: c's; what is ready. Whether there is more to do than to wait */
struct request *conn_take_answers(struct net_conn *c); /* locks: c's. Empties the queue; returns those answered */
void requests_finish(struct thread *t, struct request *list); /* no lock held */

#endif
