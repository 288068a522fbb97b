/* spoolfs group reset-offsets: where a group without members goes on. */
#include "fs/cmd_group.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/table.h"
#include "store/clock.h"

/* ---- times ---- */

/* "", "Z", "+hh:mm", "-hhmm": minutes east of Greenwich. */
static bool parse_zone(const char *text, int *minutes)
{
	int h, m, used = 0;
	*minutes = 0;
	if (!*text || !strcmp(text, "Z"))
		return true;
	if (*text != '+' && *text != '-')
		return false;
	if ((sscanf(text + 1, "%2d:%2d%n", &h, &m, &used) != 2 && sscanf(text + 1, "%2d%2d%n", &h, &m, &used) != 2) || text[1 + used] || h > 18 || m > 59 || h < 0 || m < 0)
		return false;
	*minutes = (*text == '-' ? -1 : 1) * (60 * h + m);
	return true;
}

/* ".123" and more digits: milliseconds, what is finer is dropped. */
static const char *parse_fraction(const char *text, int *ms)
{
	*ms = 0;
	if (*text != '.')
		return text;
	int weight = 100;
	for (text++; *text >= '0' && *text <= '9'; text++, weight /= 10)
		*ms += (*text - '0') * weight;
	return text;
}

bool group_parse_datetime(const char *text, int64_t *ms)
{
	static const char *const forms[] = {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%d"};
	for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
		struct tm tm = {0};
		int fraction, zone;
		const char *rest = strptime(text, forms[i], &tm);
		int day = tm.tm_mday;
		if (!rest || !parse_zone(rest = parse_fraction(rest, &fraction), &zone))
			continue;
		time_t t = timegm(&tm);
		*ms = ((int64_t)t - 60 * zone) * 1000 + fraction;
		return tm.tm_mday == day && *ms >= 0; /* there is no 30th of February */
	}
	return false;
}

bool group_parse_duration(const char *text, int64_t *ms)
{
	static const struct { char letter; bool time; int64_t ms; } units[] = {{'W', false, 604800000}, {'D', false, 86400000}, {'H', true, 3600000}, {'M', true, 60000}, {'S', true, 1000}};
	enum { UNITS = sizeof units / sizeof *units };
	bool time = false, any = false;
	int next = 0, fraction;
	*ms = 0;
	if (*text++ != 'P')
		return false;
	while (*text) {
		if (*text == 'T' && !time) {
			time = true;
			any = false;
			text++;
			continue;
		}
		char *end;
		errno = 0;
		long long n = strtoll(text, &end, 10);
		if (errno || *text < '0' || *text > '9')
			return false;
		const char *rest = parse_fraction(end, &fraction);
		int u = next;
		while (u < UNITS && (units[u].letter != *rest || units[u].time != time))
			u++;
		if (u == UNITS || (rest != end && *rest != 'S') || n > INT64_MAX / units[u].ms / 8)
			return false;
		*ms += n * units[u].ms + fraction;
		next = u + 1;
		any = true;
		text = rest + 1;
	}
	return any;
}

/* ---- which partitions ---- */

struct plan { struct remote_place *place; int64_t *before, *after; size_t n, cap; };

static int add_place(struct remote *r, struct plan *p, const char *topic, int32_t partition, struct err *e)
{
	if (p->n == p->cap) {
		size_t cap = p->cap ? 2 * p->cap : 16;
		struct remote_place *v = remote_get(r, cap * sizeof *v, e);
		if (!v)
			return ERR_NO_MEMORY;
		if (p->n)
			memcpy(v, p->place, p->n * sizeof *v);
		p->place = v;
		p->cap = cap;
	}
	p->place[p->n++] = (struct remote_place){.topic = topic, .partition = partition};
	return 0;
}

/* The number at *at, which moves behind the comma, or becomes NULL at the end. -1: there is none. */
static long next_partition(char **at)
{
	char *end;
	errno = 0;
	long n = strtol(*at, &end, 10);
	bool good = !errno && **at >= '0' && **at <= '9' && (!*end || *end == ',');
	*at = good && *end ? end + 1 : NULL;
	return good ? n : -1;
}

bool group_check_topic(const char *text)
{
	const char *colon = strrchr(text, ':');
	char *at = colon ? (char *)colon + 1 : NULL;
	bool good = *text && colon != text;
	while (at && good)
		good = next_partition(&at) >= 0;
	return good;
}

/* TOPIC or TOPIC:P,P,... */
static int add_topic(struct remote *r, struct plan *p, const char *text, struct err *e)
{
	char *topic = remote_text(r, wire_string(text), e), *colon = topic ? strrchr(topic, ':') : NULL;
	int32_t count;
	if (!topic)
		return ERR_NO_MEMORY;
	if (colon)
		*colon = 0;
	int rc = remote_partition_count(r, topic, &count, e);
	for (int32_t i = 0; rc == 0 && !colon && i < count; i++)
		rc = add_place(r, p, topic, i, e);
	char *at = colon ? colon + 1 : NULL;
	while (rc == 0 && at) {
		long n = next_partition(&at);
		if (n >= count)
			return err_set(e, ERR_NOT_FOUND, "topic %s has no partition %ld", topic, n);
		rc = add_place(r, p, topic, (int32_t)n, e);
	}
	return rc;
}

static int make_plan(struct remote *r, const struct group_args *a, struct plan *p, struct err *e)
{
	int rc = 0;
	for (int i = 0; i < a->topic_count && rc == 0; i++)
		rc = add_topic(r, p, a->topics[i], e);
	if (rc < 0)
		return rc;
	qsort(p->place, p->n, sizeof *p->place, remote_place_order);
	size_t kept = 0;
	for (size_t i = 0; i < p->n; i++)
		if (!kept || remote_place_order(&p->place[kept - 1], &p->place[i]))
			p->place[kept++] = p->place[i];
	p->n = kept;
	p->before = remote_get(r, (p->n + 1) * sizeof *p->before, e);
	p->after = remote_get(r, (p->n + 1) * sizeof *p->after, e);
	return p->before && p->after ? 0 : ERR_NO_MEMORY;
}

/* ---- to what ---- */

static int list(struct remote *r, struct plan *p, int64_t timestamp, int64_t *to, struct err *e)
{
	char words[200];
	int rc = remote_list_offsets(r, p->place, p->n, timestamp, e);
	for (size_t i = 0; i < p->n && rc == 0; i++) {
		if (p->place[i].error)
			return err_set(e, ERR_OFFLINE, "topic %s, partition %" PRId32 ": %s", p->place[i].topic, p->place[i].partition, group_error_words(p->place[i].error, words));
		to[i] = p->place[i].offset;
	}
	return rc;
}

static void take_before(struct plan *p, const struct group_offsets *o)
{
	for (size_t i = 0; i < p->n; i++) {
		const struct remote_place *c = o->count ? bsearch(&p->place[i], o->place, o->count, sizeof *o->place, remote_place_order) : NULL;
		p->before[i] = c ? c->offset : -1;
	}
}

/* Within what there is: Kafka's own tool does so, too. */
static int clamp(struct remote *r, struct plan *p, struct err *e)
{
	int64_t *first = remote_get(r, (p->n + 1) * sizeof *first, e), *end = remote_get(r, (p->n + 1) * sizeof *end, e);
	int rc = first && end ? list(r, p, REMOTE_EARLIEST, first, e) : ERR_NO_MEMORY;
	if (rc == 0)
		rc = list(r, p, REMOTE_LATEST, end, e);
	for (size_t i = 0; i < p->n && rc == 0; i++) {
		int64_t wanted = p->after[i];
		p->after[i] = wanted < first[i] ? first[i] : wanted > end[i] ? end[i] : wanted;
		if (wanted != p->after[i])
			group_say("topic %s, partition %" PRId32 " has %" PRId64 " to %" PRId64 ": %" PRId64 " becomes %" PRId64, p->place[i].topic, p->place[i].partition,
				  first[i], end[i], wanted, p->after[i]);
	}
	return rc;
}

static int to_time(struct remote *r, struct plan *p, int64_t ms, struct err *e)
{
	int64_t *end = remote_get(r, (p->n + 1) * sizeof *end, e);
	int rc = end ? list(r, p, ms, p->after, e) : ERR_NO_MEMORY;
	if (rc == 0)
		rc = list(r, p, REMOTE_LATEST, end, e);
	for (size_t i = 0; i < p->n && rc == 0; i++)
		if (p->after[i] < 0)
			p->after[i] = end[i]; /* nothing is as new as that */
	return rc;
}

static int shift(struct remote *r, struct plan *p, const char *group, int64_t by, struct err *e)
{
	for (size_t i = 0; i < p->n; i++) {
		if (p->before[i] < 0)
			return err_set(e, ERR_NOT_FOUND, "group %s has no offset in topic %s, partition %" PRId32 ", that could be shifted", group, p->place[i].topic,
				       p->place[i].partition);
		if (__builtin_add_overflow(p->before[i], by, &p->after[i]))
			p->after[i] = by < 0 ? 0 : INT64_MAX;
	}
	return clamp(r, p, e);
}

static int find_offsets(struct remote *r, const struct group_args *a, struct plan *p, struct err *e)
{
	int rc = remote_find_leaders(r, p->place, p->n, e);
	if (rc < 0)
		return rc;
	switch (a->how) {
	case GROUP_TO_EARLIEST:
		return list(r, p, REMOTE_EARLIEST, p->after, e);
	case GROUP_TO_LATEST:
		return list(r, p, REMOTE_LATEST, p->after, e);
	case GROUP_TO_DATETIME:
		return to_time(r, p, a->number, e);
	case GROUP_BY_DURATION: {
		int64_t ms = wall_now_ms() - a->number;
		return to_time(r, p, ms > 0 ? ms : 0, e);
	}
	case GROUP_SHIFT_BY:
		return shift(r, p, a->base.names[0], a->number, e);
	default:
		for (size_t i = 0; i < p->n; i++)
			p->after[i] = a->number;
		return clamp(r, p, e);
	}
}

/* ---- committing ---- */

static int16_t commit_error(const void *response)
{
	const struct offset_commit_response *a = response;
	return a->topics.n && a->topics.v[0].partitions.n ? a->topics.v[0].partitions.v[0].error_code : KAFKA_UNKNOWN_SERVER_ERROR;
}

static int commit(struct remote *r, const char *group, const struct plan *p, struct err *e)
{
	struct offset_commit_request q;
	struct offset_commit_response a;
	char words[200];
	wire_init(&wire_offset_commit_request, &q);
	q.group_id = wire_string(group);
	q.topics.v = remote_get(r, (p->n + 1) * sizeof *q.topics.v, e);
	struct offset_commit_request_partition *to = remote_get(r, (p->n + 1) * sizeof *to, e);
	if (!q.topics.v || !to)
		return ERR_NO_MEMORY;
	for (size_t i = 0; i < p->n; i++) {
		if (!i || strcmp(p->place[i].topic, p->place[i - 1].topic))
			q.topics.v[q.topics.n++] = (struct offset_commit_request_topic){.name = wire_string(p->place[i].topic), .partitions = {.v = to + i}};
		q.topics.v[q.topics.n - 1].partitions.n++;
		to[i] = (struct offset_commit_request_partition){.partition_index = p->place[i].partition, .committed_offset = p->after[i], .committed_leader_epoch = -1,
								 .committed_metadata = wire_string("")};
	}
	int rc = remote_group_call(r, group, API_OFFSET_COMMIT, &q, &a, commit_error, e);
	for (int32_t t = 0; rc == 0 && t < a.topics.n; t++)
		for (int32_t i = 0; i < a.topics.v[t].partitions.n; i++)
			if (a.topics.v[t].partitions.v[i].error_code)
				return err_set(e, ERR_INVALID, "topic %.*s, partition %" PRId32 ": %s", a.topics.v[t].name.n, a.topics.v[t].name.s,
					       a.topics.v[t].partitions.v[i].partition_index, group_error_words(a.topics.v[t].partitions.v[i].error_code, words));
	return rc;
}

/* ---- the verb ---- */

static bool print_plan(const struct group_args *a, const struct plan *p)
{
	if (a->base.json) {
		json_t *rows = json_array();
		for (size_t i = 0; i < p->n; i++)
			json_array_append_new(rows, json_pack("{s:s, s:s, s:i, s:o, s:I}", "group", a->base.names[0], "topic", p->place[i].topic, "partition", (int)p->place[i].partition,
							      "before", p->before[i] < 0 ? json_null() : json_integer(p->before[i]), "offset", (json_int_t)p->after[i]));
		return remote_print_json("spoolfs group", rows);
	}
	struct table t;
	table_init(&t, (const char *const[]){"TOPIC", "PARTITION", "BEFORE", "OFFSET"}, 4);
	for (size_t i = 0; i < p->n; i++) {
		table_text(&t, p->place[i].topic);
		table_number(&t, p->place[i].partition);
		if (p->before[i] < 0)
			table_text(&t, NULL);
		else
			table_number(&t, p->before[i]);
		table_number(&t, p->after[i]);
	}
	bool good = table_print(&t);
	table_release(&t);
	return good;
}

static bool has_members(const struct group_about *about)
{
	return about->found && strcmp(about->state, "Empty") && strcmp(about->state, "Dead");
}

int group_reset_run(struct remote *r, const void *args)
{
	const struct group_args *a = args;
	struct plan p = {0};
	struct group_about about;
	struct group_offsets o;
	struct err e = ERR_INIT;
	const char *group = a->base.names[0];
	int rc = group_about(r, group, &about, &e);
	if (rc == 0 && has_members(&about) && !a->dry_run)
		rc = err_set(&e, ERR_BUSY, "its state is %s: offsets can be set while it has no members; stop them first", about.state);
	if (rc == 0)
		rc = group_offsets(r, group, &o, &e);
	if (rc == 0)
		rc = make_plan(r, a, &p, &e);
	if (rc == 0) {
		take_before(&p, &o);
		rc = find_offsets(r, a, &p, &e);
	}
	if (rc == 0 && !a->dry_run && p.n)
		rc = commit(r, group, &p, &e);
	if (rc < 0) {
		group_say("the offsets of group %s are not set: %s", group, e.text);
		return EXIT_FAILURE;
	}
	return print_plan(a, &p) ? 0 : EXIT_FAILURE;
}
