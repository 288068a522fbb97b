#include "cluster/throttle.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/model.h"

static const char *const list_name[THROTTLE_SIDES] = {"leader.replication.throttled.replicas", "follower.replication.throttled.replicas"};
static const char *const rate_name[THROTTLE_SIDES] = {"leader.replication.throttled.rate", "follower.replication.throttled.rate"};

/* list: "*", or PARTITION:BROKER,..., as it was checked. */
static bool names(const char *list, int32_t partition, int32_t broker)
{
	if (!strcmp(list, "*"))
		return true;
	for (const char *at = list; at; at = strchr(at, ',')) {
		char *end;
		at += *at == ',';
		if (strtol(at, &end, 10) == partition && *end == ':' && strtol(end + 1, NULL, 10) == broker)
			return true;
	}
	return false;
}

bool partition_is_throttled(struct partition *p, enum throttle_side side)
{
	struct topic *t = p->topic;
	if (!(t->throttles & 1u << side))
		return false;
	pthread_mutex_lock(&t->conf_lock);
	bool named = names(conf_str(t->conf ? t->conf : t->defaults->topic, list_name[side]), p->index, t->broker->id);
	pthread_mutex_unlock(&t->conf_lock);
	return named;
}

unsigned topic_throttles(const struct conf *c)
{
	unsigned bits = 0;
	for (int side = 0; side < THROTTLE_SIDES; side++)
		bits |= *conf_str(c, list_name[side]) ? 1u << side : 0;
	return bits;
}

/* What is still owed, now. locks: x's. */
static int64_t settle(struct throttle *x, int64_t rate)
{
	int64_t now = mono_now().ns;
	double paid = (double)(now - x->at_ns) / 1e9 * (double)rate;
	x->owed_bytes = paid < (double)x->owed_bytes ? x->owed_bytes - (int64_t)paid : 0;
	if (paid >= 1 || !x->owed_bytes)
		x->at_ns = now;
	return x->owed_bytes;
}

int64_t broker_throttle_wait_ns(struct broker *b, enum throttle_side side)
{
	enum { LONGEST_S = 3600 };
	struct throttle *x = &b->throttle[side];
	int64_t rate = broker_conf_int(b, rate_name[side]);
	pthread_mutex_lock(&x->lock);
	int64_t owed = settle(x, rate);
	pthread_mutex_unlock(&x->lock);
	double seconds = (double)owed / (double)(rate > 0 ? rate : 1);
	return (int64_t)((seconds < LONGEST_S ? seconds : LONGEST_S) * 1e9);
}

void broker_throttle_took(struct broker *b, enum throttle_side side, int64_t bytes)
{
	struct throttle *x = &b->throttle[side];
	int64_t rate = broker_conf_int(b, rate_name[side]);
	pthread_mutex_lock(&x->lock);
	x->owed_bytes = settle(x, rate) + bytes;
	pthread_mutex_unlock(&x->lock);
}
