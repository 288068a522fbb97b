/* Where a file begins and ends, as brokers say that have it. */
#include <inttypes.h>
#include <stdlib.h>

#include "cluster/remote/model.h"
#include "store/diag.h"

/* After a start, or for what nobody has asked for yet: how long a leader is waited for that knows how far it is committed. */
enum { FIRST_LOOK_MS = 10000, EXPECT_MS = 1000, EXPECT_STEP_MS = 2 };

struct remote_view *remote_view_of(struct partition *p)
{
	struct remote_view *x = p->elsewhere, *none = NULL;
	if (x || !(x = calloc(1, sizeof *x)))
		return x;
	pthread_mutex_init(&x->lock, NULL);
	x->epoch = -1;
	if (atomic_compare_exchange_strong(&p->elsewhere, &none, x))
		return x;
	remote_view_free(x);
	return none;
}

void remote_view_free(struct remote_view *x)
{
	if (!x)
		return;
	pthread_mutex_destroy(&x->lock);
	free(x);
}

bool remote_known(struct remote_view *x, struct visible *v)
{
	if (!x)
		return false;
	pthread_mutex_lock(&x->lock);
	bool known = x->known;
	*v = x->visible;
	pthread_mutex_unlock(&x->lock);
	return known;
}

int64_t remote_shown(const struct remote_view *x)
{
	return x->shown;
}

struct wire_uuid remote_topic_id(const struct partition *p)
{
	struct wire_uuid id;
	memcpy(id.b, topic_id_bytes(partition_topic(p)), sizeof id.b);
	return id;
}

/* ---- what is known ---- */

/* Whether the leader's log ends before what was shown of it. locks: x->lock. */
static bool was_cut(const struct remote_view *x, const struct view_lookup_response_partition *a, int64_t shown)
{
	return x->known && a->leads && a->leader_epoch >= x->epoch && a->log_end_offset < shown;
}

void remote_note(struct partition *p, const struct view_lookup_response_partition *a, int64_t shown)
{
	struct remote_view *x = remote_view_of(p);
	if (!x)
		return;
	pthread_mutex_lock(&x->lock);
	struct visible *v = &x->visible;
	bool cut = was_cut(x, a, shown), first = !x->known;
	int64_t before = v->end_offset;
	if (first || cut || a->sequential != v->sequential)
		*v = (struct visible){.start_offset = a->start_offset, .start_position = a->start_position, .sequential = a->sequential};
	if (a->start_offset > v->start_offset) {
		v->start_offset = a->start_offset;
		v->start_position = a->start_position;
	}
	if (first || a->end_offset >= v->end_offset) {
		v->end_offset = a->end_offset;
		v->end_position = a->end_position;
		v->mtime_ms = a->mtime_ms;
		v->bytes = a->bytes;
	}
	if (v->end_offset < v->start_offset) { /* of a replica that has not come as far as another's log starts */
		v->end_offset = v->start_offset;
		v->end_position = v->start_position;
	}
	if (a->leader_epoch > x->epoch)
		x->epoch = a->leader_epoch;
	x->known = true;
	x->shown = v->end_position;
	pthread_mutex_unlock(&x->lock);
	if (!cut)
		return;
	p->cuts++;
	diag_warning("%s-%" PRId32 ": the log of its leader ends at offset %" PRId64 ", before what was committed (%" PRId64 "): it was elected without having that", partition_topic_name(p), partition_index(p),
		     a->log_end_offset, before);
}

void remote_saw(struct partition *p, int64_t end_offset, int64_t end_position)
{
	struct remote_view *x = p->elsewhere;
	pthread_mutex_lock(&x->lock);
	if (end_offset > x->visible.end_offset && end_position >= x->visible.end_position) {
		x->visible.end_offset = end_offset;
		x->visible.end_position = end_position;
		x->shown = end_position;
	}
	pthread_mutex_unlock(&x->lock);
}

/* ---- asking ---- */

static int take_answer(const struct view_lookup_response *r, struct turn *t, struct view_lookup_response_partition *a, struct err *e)
{
	if (r->topics.n != 1 || r->topics.v[0].partitions.n != 1 || r->topics.v[0].partitions.v[0].partition != partition_index(t->p))
		return err_set(e, ERR_CORRUPT, "broker %" PRId32 " answers a ViewLookup with what was not asked for", t->id);
	*a = r->topics.v[0].partitions.v[0];
	return 0;
}

int remote_ask(struct turn *t, int64_t offset, int64_t position, struct view_lookup_response_partition *a, struct err *e)
{
	struct view_lookup_request_partition part = {.partition = partition_index(t->p), .current_leader_epoch = t->epoch, .offset = offset, .position = position};
	struct view_lookup_request_topic topic = {.topic_id = remote_topic_id(t->p), .partitions = {&part, 1}};
	struct view_lookup_request q = {.topics = {&topic, 1}};
	struct view_lookup_response response;
	struct visible v;
	struct client *c;
	int rc = remote_take(t->r, t->id, true, &c, e);
	if (rc < 0)
		return rc;
	t->shown = remote_known(t->p->elsewhere, &v) ? v.end_offset : -1;
	client_set_timeout(c, LOOK_MS);
	rc = client_call(c, API_VIEW_LOOKUP, &q, &response, e);
	bool good = rc == 0;
	if (rc == ERR_TIMED_OUT)
		remote_missed(t->r, t->id, rc, e);
	if (rc == 0)
		rc = take_answer(&response, t, a, e);
	remote_give(t->r, t->id, c, good);
	return rc;
}

/* Asks the leader; where it cannot be had, and nothing is known, waits for one. */
static int look(struct remote *r, struct partition *p, struct visible *v, struct err *e)
{
	struct turn t;
	struct view_lookup_response_partition a, best;
	bool known = remote_known(p->elsewhere, v), partly = false;
	remote_turn(&t, r, p, FIRST_LOOK_MS);
	for (;;) {
		int rc = remote_next(&t, known, e);
		if (rc < 0 && partly)
			remote_note(p, &best, -1); /* as far as that goes */
		if (rc < 0)
			return rc;
		rc = remote_ask(&t, -1, -1, &a, &t.why);
		if (rc == ERR_INTERRUPTED)
			continue;
		if (rc == 0 && a.error_code) {
			err_set(&t.why, ERR_OFFLINE, "broker %" PRId32 " answers %s", t.id, kafka_error_name(a.error_code));
			continue;
		}
		if (rc < 0)
			continue;
		if (a.leads && a.settled) {
			remote_note(p, &a, t.shown);
			return 0;
		}
		err_set(&t.why, ERR_NOT_YET, "broker %" PRId32 " does not know how far it is committed", t.id);
		if (!partly || a.end_offset > best.end_offset)
			best = a;
		partly = true;
	}
}

void remote_expect(struct partition *p, int64_t end_offset)
{
	struct remote_view *x = remote_view_of(p);
	if (!x)
		return;
	pthread_mutex_lock(&x->lock);
	if (end_offset > x->expected) {
		x->expected = end_offset;
		x->expected_by = mono_after_ms(mono_now(), EXPECT_MS);
	}
	pthread_mutex_unlock(&x->lock);
}

/* Whether more was appended from here than is visible, a moment ago. */
static bool is_expected(struct remote_view *x)
{
	pthread_mutex_lock(&x->lock);
	bool waits = x->known && x->visible.end_offset < x->expected && mono_diff_ns(x->expected_by, mono_now()) > 0;
	pthread_mutex_unlock(&x->lock);
	return waits;
}

int remote_look(struct remote *r, struct partition *p, struct visible *v, struct err *e)
{
	if (!remote_view_of(p))
		return err_set(e, ERR_NO_MEMORY, "no memory for what other brokers have");
	int rc = look(r, p, v, e);
	while (rc == 0 && is_expected(p->elsewhere) && (rc = remote_pause(r, EXPECT_STEP_MS, e)) == 0)
		rc = look(r, p, v, e);
	bool known = remote_known(p->elsewhere, v);
	return known && rc != ERR_DELETED ? 0 : rc == ERR_TIMED_OUT ? err_set(e, ERR_OFFLINE, "%s", e->text) : rc;
}

int remote_locate(struct remote *r, struct partition *p, int64_t position, int64_t *offset, int64_t *record_position, struct err *e)
{
	struct turn t;
	struct view_lookup_response_partition a;
	remote_turn(&t, r, p, r->read_ms);
	for (;;) {
		int rc = remote_next(&t, false, e);
		if (rc < 0)
			return rc;
		rc = remote_ask(&t, -1, position, &a, &t.why);
		if (rc < 0)
			continue;
		if (a.error_code == KAFKA_POSITION_OUT_OF_RANGE || a.error_code == KAFKA_OFFSET_OUT_OF_RANGE)
			return err_set(e, ERR_OUT_OF_RANGE, "%s-%" PRId32 ": position %" PRId64 " is not in it at broker %" PRId32, partition_topic_name(p), partition_index(p), position, t.id);
		if (a.error_code || a.offset < 0) {
			err_set(&t.why, ERR_OFFLINE, "broker %" PRId32 " answers %s", t.id, kafka_error_name(a.error_code));
			continue;
		}
		*offset = a.offset;
		*record_position = a.position;
		return 0;
	}
}
