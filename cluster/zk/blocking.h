/*
 * blocking: requests to ZooKeeper for threads that may wait for the answer: several at once, all of them answered when zk_ask returns.
 *
 * What is asked for is sent together, and waited for together, up to a time: with the connection lost an answer comes only when it is back. An answer that comes later is dropped; what it was of may have
 * been done.
 *
 * thread: any but the queue's. locks: none may be held.
 */
#ifndef CLUSTER_ZK_BLOCKING_H
#define CLUSTER_ZK_BLOCKING_H

#include "cluster/zk/zk.h"

enum zk_question_kind { ZK_ASK_GET, ZK_ASK_EXISTS, ZK_ASK_CHILDREN, ZK_ASK_DELETE };

struct zk_question {
	enum zk_question_kind kind;
	bool watch;
	const char *path;        /* borrowed during the call */
	/* The answer, owned until zk_answers_release; of what zk_result has: */
	enum zk_code code;
	char *data;              /* a byte 0 stands behind; NULL: none */
	size_t bytes;
	char **children;         /* names, sorted */
	size_t children_count;
	struct zk_stat stat;
};

/* ERR_TIMED_OUT, ERR_NO_MEMORY: none has an answer. What ZooKeeper refuses is no error here: see `code`. */
int zk_ask(struct zk *z, struct zk_question *v, size_t n, int timeout_ms, struct err *e);
void zk_answers_release(struct zk_question *v, size_t n); /* also of those that were not answered */

/* A multi, waited for. m is zk's from here on. *refused: the part that was at fault; == the number of parts: none. ERR_TIMED_OUT: it may be done yet. */
int zk_ask_multi(struct zk *z, struct zk_multi *m, int timeout_ms, enum zk_code *code, size_t *refused, struct err *e);

#endif
