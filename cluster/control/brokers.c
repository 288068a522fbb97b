/* Brokers come, go, and are about to go. README.md, "A broker appears", "A broker is lost", "Controlled shutdown". */
#include "cluster/control/state.h"

/* ---- registrations ---- */

static bool copy_text(struct brain *b, const char *from, const char **to)
{
	*to = from ? brain_need(b, strdup(from)) : NULL;
	return !from || *to;
}

static void take_registration(struct brain *b, struct broker *r, const struct brain_broker *from)
{
	for (size_t i = 0; i < r->endpoints; i++) {
		free((char *)r->endpoint[i].listener);
		free((char *)r->endpoint[i].host);
	}
	free(r->endpoint);
	free(r->rack);
	r->endpoints = 0;
	r->rack = NULL;
	r->endpoint = brain_need(b, calloc(from->endpoints + 1, sizeof *r->endpoint));
	copy_text(b, from->rack, (const char **)&r->rack);
	for (size_t i = 0; r->endpoint && i < from->endpoints; i++) {
		struct brain_endpoint *e = &r->endpoint[r->endpoints++];
		e->port = from->endpoint[i].port;
		e->protocol = from->endpoint[i].protocol;
		if (!copy_text(b, from->endpoint[i].listener, &e->listener) || !copy_text(b, from->endpoint[i].host, &e->host))
			return;
	}
	r->registered = true;
	r->epoch = from->epoch;
}

void brokers_told(struct brain *b)
{
	for (int32_t i = 0; i < b->brokers; i++)
		b->broker[i].brokers_changed = b->broker[i].registered;
}

static void raise_doubt(struct brain *b)
{
	b->doubt = ++b->stamp;
}

void brokers_ask(struct brain *b)
{
	raise_doubt(b);
	brokers_told(b);
}

void broker_has_proved(struct brain *b, struct broker *r, uint64_t stamp)
{
	bool before = broker_proved(b, r);
	if (stamp > r->proved)
		r->proved = stamp;
	if (before || !broker_proved(b, r))
		return;
	for (int32_t i = 0; i < (b->parts + 63) / 64; i++) {
		b->dirty.w[i] |= b->doubted.w[i];
		b->doubted.w[i] = 0;
	}
}

void brain_load_broker(struct brain *b, const struct brain_broker *from)
{
	struct broker *r = brain_ok(b) ? broker_row(b, from->id) : NULL;
	if (!r)
		return;
	take_registration(b, r, from);
	r->unclean = !from->clean;
}

void brain_load_ledger(struct brain *b, int32_t broker, const struct brain_ledger *l, int32_t version)
{
	struct broker *r = brain_ok(b) ? broker_row(b, broker) : NULL;
	if (!r)
		return;
	r->ledger = *l;
	r->ledger_version = version;
}

/* A registration that is not settled: every ISR that it is in, it was in before, for all that is known. */
static void begin(struct brain *b, struct broker *r)
{
	bool settled = r->ledger.settled_epoch == r->epoch;
	r->fenced = r->ledger.fenced_epoch == r->epoch;
	r->unclean = !settled && (r->unclean || r->ledger.unclean);
	r->leaving = r->deaf = r->fence_wanted = false;
	r->held = true;
	r->states_full = r->metadata_full = r->brokers_changed = true;
	r->proved = 0;
	bits_none(b, &r->lost);
	bits_none(b, &r->offline);
	for (int32_t row = 0; row < b->parts; row++) {
		const struct part *p = &b->part[row];
		if (!part_is_live(b, p) || !ids_has(p->replicas, r->id))
			continue;
		part_dirty(b, row);
		if (!settled && (ids_has(p->isr, r->id) || p->leader == r->id))
			bits_set(&r->lost, row);
	}
}

void brokers_start(struct brain *b)
{
	b->stamp = 1;
	raise_doubt(b);
	for (int32_t i = 0; i < b->brokers; i++) {
		if (b->broker[i].registered) {
			begin(b, &b->broker[i]);
			broker_look(b, &b->broker[i]);
		}
	}
}

/* Nothing of it can be counted on: who has a part in it is looked at anew, and whoever is to take its place must show that it is alive. */
void brain_broker_died(struct brain *b, struct broker *r)
{
	raise_doubt(b);
	r->unclean = r->unclean && bits_any(b, &r->lost);
	requests_forget(b, r);
	bits_none(b, &r->lost);
	bits_none(b, &r->offline);
	r->leaving = r->held = r->fence_wanted = false;
	for (int32_t row = 0; row < b->parts; row++) {
		if (part_is_live(b, &b->part[row]) && ids_has(b->part[row].replicas, r->id))
			part_dirty(b, row);
	}
	if (r->shutdown) {
		((struct controlled_shutdown_response *)r->shutdown->response)->error_code = KAFKA_STALE_BROKER_EPOCH;
		call_done(b, r->shutdown);
		r->shutdown = NULL;
	}
	brokers_told(b);
}

void brain_broker_up(struct brain *b, const struct brain_broker *from, int64_t now_ms)
{
	struct broker *r = brain_ok(b) ? broker_row(b, from->id) : NULL;
	if (!r)
		return;
	b->now_ms = now_ms;
	if (r->registered && r->epoch == from->epoch) {
		brain_broker_changed(b, from);
		return;
	}
	if (r->registered && !r->fenced)
		brain_broker_died(b, r);
	take_registration(b, r, from);
	r->unclean = r->unclean || !from->clean;
	begin(b, r);
	r->born_in_batch = b->writing;
	if (r->unclean)
		raise_doubt(b);
	for (int32_t t = 0; t < b->topics; t++) {
		if (b->topic[t].name && b->topic[t].phase == TOPIC_DELETING && b->topic[t].marked)
			topic_delete_at(b, t, r);
	}
	brokers_told(b);
	broker_look(b, r);
}

void brain_broker_down(struct brain *b, int32_t id, int64_t now_ms)
{
	struct broker *r = broker_find(b, id);
	if (!brain_ok(b) || !r || !r->registered)
		return;
	b->now_ms = now_ms;
	r->registered = false;
	if (r->fenced)
		brokers_told(b); /* its death is known */
	else
		brain_broker_died(b, r);
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool is_known_so(const struct broker *r, const struct brain_broker *from)
{
	bool same = same_text(r->rack, from->rack) && r->endpoints == from->endpoints;
	for (size_t i = 0; same && i < from->endpoints; i++) {
		const struct brain_endpoint *a = &r->endpoint[i], *b = &from->endpoint[i];
		same = same_text(a->listener, b->listener) && same_text(a->host, b->host) && a->port == b->port && a->protocol == b->protocol;
	}
	return same;
}

void brain_broker_changed(struct brain *b, const struct brain_broker *from)
{
	struct broker *r = broker_find(b, from->id);
	if (!brain_ok(b) || !r || !r->registered || r->epoch != from->epoch || is_known_so(r, from))
		return;
	take_registration(b, r, from);
	brokers_told(b);
	/* The addresses of leaders stand in what their followers are told. */
	for (int32_t row = 0; row < b->parts; row++) {
		if (part_is_live(b, &b->part[row]) && b->part[row].leader == r->id)
			part_tell(b, row);
	}
}

void brain_broker_refuses(struct brain *b, int32_t id, int64_t epoch)
{
	struct broker *r = broker_find(b, id);
	if (brain_ok(b) && broker_alive(r) && r->epoch == epoch && id != b->o.self)
		r->fence_wanted = true;
}

void brain_broker_lost_dir(struct brain *b, int32_t id)
{
	struct broker *r = broker_find(b, id);
	for (int32_t row = 0; brain_ok(b) && r && row < b->parts; row++) {
		if (part_is_live(b, &b->part[row]) && ids_has(b->part[row].replicas, id))
			bits_set(&r->states, row);
	}
}

/* ---- what holds a broker back ---- */

static bool may_be_told(const struct brain *b, const struct broker *r)
{
	bool any = false;
	for (int32_t row = 0; row < b->parts; row++) {
		if (!bits_has(&r->lost, row))
			continue;
		any = true;
		if (b->part[row].leader != NO_LEADER)
			return false;
	}
	return !any || !r->unclean || r->ledger.unclean;
}

void broker_look(struct brain *b, struct broker *r)
{
	if (r->held && broker_alive(r) && !r->born_in_batch && may_be_told(b, r))
		r->held = false;
}

/* ---- controlled shutdown ---- */

static bool is_led_with_others(const struct brain *b, const struct part *p, int32_t id)
{
	return part_is_live(b, p) && p->exists && p->leader == id && ids_n(p->replicas) > 1;
}

static void answer_shutdown(struct brain *b, struct broker *r)
{
	struct call *c = r->shutdown;
	struct controlled_shutdown_response *answer = c->response;
	int32_t n = 0;
	for (int32_t row = 0; row < b->parts; row++)
		n += is_led_with_others(b, &b->part[row], r->id);
	answer->remaining_partitions.v = brain_need(b, arena_get(&c->arena, (size_t)n * sizeof *answer->remaining_partitions.v, NULL));
	for (int32_t row = 0; row < b->parts && answer->remaining_partitions.v; row++) {
		const struct part *p = &b->part[row];
		if (is_led_with_others(b, p, r->id))
			answer->remaining_partitions.v[answer->remaining_partitions.n++] =
				(struct controlled_shutdown_response_partition){.topic_name = wire_string(part_topic(b, p)->name), .partition_index = p->number};
	}
	r->shutdown = NULL;
	call_done(b, c);
}

/* Some of its partitions are not decided: who would take its place has not answered yet. */
static bool is_undecided(const struct brain *b, const struct broker *r)
{
	for (int32_t row = 0; row < b->parts; row++) {
		if (bits_has(&b->doubted, row) && ids_has(b->part[row].isr, r->id))
			return true;
	}
	return false;
}

void shutdowns_look(struct brain *b)
{
	for (int32_t i = 0; i < b->brokers; i++) {
		if (b->broker[i].shutdown && !is_undecided(b, &b->broker[i]))
			answer_shutdown(b, &b->broker[i]);
	}
}

void brain_controlled_shutdown(struct brain *b, const struct controlled_shutdown_request *q, void *ticket)
{
	struct call *c = call_new(b, ticket, API_CONTROLLED_SHUTDOWN);
	if (!c)
		return;
	struct controlled_shutdown_response *answer = c->response;
	struct broker *r = broker_find(b, q->broker_id);
	answer->error_code = !broker_alive(r) ? KAFKA_BROKER_NOT_AVAILABLE : q->broker_epoch != -1 && q->broker_epoch != r->epoch ? KAFKA_STALE_BROKER_EPOCH : KAFKA_NONE;
	if (answer->error_code) {
		call_done(b, c);
		return;
	}
	broker_has_proved(b, r, b->stamp);
	if (r->shutdown) {
		((struct controlled_shutdown_response *)r->shutdown->response)->error_code = KAFKA_REQUEST_TIMED_OUT;
		call_done(b, r->shutdown);
	}
	r->shutdown = c;
	r->leaving = true;
	brokers_ask(b);
	for (int32_t row = 0; row < b->parts; row++) {
		if (part_is_live(b, &b->part[row]) && ids_has(b->part[row].isr, r->id))
			part_dirty(b, row);
	}
}
