#include "fs/cmd_group.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/table.h"

enum { OPT_STATE = 3000, OPT_TOPIC, OPT_DRY_RUN };

/* ---- shared ---- */

const char *group_error_words(int16_t code, char text[200])
{
	const char *words = "";
	switch (code) {
	case KAFKA_NON_EMPTY_GROUP:
		words = "it has members";
		break;
	case KAFKA_GROUP_ID_NOT_FOUND:
		words = "there is no such group";
		break;
	case KAFKA_UNKNOWN_MEMBER_ID:
		words = "it has members, who commit for themselves";
		break;
	case KAFKA_UNKNOWN_TOPIC_OR_PARTITION:
		words = "there is no such partition";
		break;
	case KAFKA_LEADER_NOT_AVAILABLE:
		words = "the partition has no leader";
		break;
	case KAFKA_GROUP_AUTHORIZATION_FAILED:
	case KAFKA_TOPIC_AUTHORIZATION_FAILED:
		words = "the broker does not allow it";
		break;
	default:
		break;
	}
	snprintf(text, 200, "%s%s%s", words, *words ? ": " : "", kafka_error_name(code));
	return text;
}

/* ---- list ---- */

static int by_id(const void *a, const void *b)
{
	const struct group_about *x = a, *y = b;
	return strcmp(x->id, y->id);
}

struct all_groups { struct group_about *v; size_t n, cap; };

static int take_groups(struct remote *r, const struct list_groups_response *a, struct all_groups *all, struct err *e)
{
	for (int32_t i = 0; i < a->groups.n; i++) {
		const struct list_groups_response_group *g = &a->groups.v[i];
		if (all->n == all->cap) {
			size_t cap = all->cap ? 2 * all->cap : 64;
			struct group_about *v = remote_get(r, cap * sizeof *v, e);
			if (!v)
				return ERR_NO_MEMORY;
			if (all->n)
				memcpy(v, all->v, all->n * sizeof *v);
			all->v = v;
			all->cap = cap;
		}
		struct group_about *to = &all->v[all->n++];
		to->id = remote_text(r, g->group_id, e);
		to->state = remote_text(r, g->group_state, e);
		to->type = remote_text(r, g->group_type, e);
		to->protocol_type = remote_text(r, g->protocol_type, e);
		if (!to->id || !to->state || !to->type || !to->protocol_type)
			return ERR_NO_MEMORY;
	}
	return 0;
}

/* Each broker knows those that it coordinates. */
static int ask_groups(struct remote *r, const struct group_args *a, struct all_groups *all, struct err *e)
{
	struct list_groups_request q;
	struct list_groups_response s;
	wire_init(&wire_list_groups_request, &q);
	q.states_filter.v = remote_get(r, (size_t)(a->state_count + 1) * sizeof *q.states_filter.v, e);
	if (!q.states_filter.v)
		return ERR_NO_MEMORY;
	for (int i = 0; i < a->state_count; i++)
		q.states_filter.v[q.states_filter.n++] = wire_string(a->states[i]);
	for (size_t b = 0; b < r->broker_count; b++) {
		int32_t id = r->broker[b].id;
		int rc = remote_call(r, id, API_LIST_GROUPS, &q, &s, e);
		for (int tries = 0; rc == 0 && s.error_code == KAFKA_COORDINATOR_LOAD_IN_PROGRESS && tries < r->timeout_ms / 100; tries++) {
			nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
			rc = remote_call(r, id, API_LIST_GROUPS, &q, &s, e);
		}
		if (rc == 0 && s.error_code)
			rc = err_set(e, ERR_OFFLINE, "broker %d cannot list its groups: %s", (int)id, kafka_error_name(s.error_code));
		if (rc == 0)
			rc = take_groups(r, &s, all, e);
		if (rc == ERR_UNSUPPORTED && a->state_count)
			rc = err_set(e, rc, "broker %d is too old to list groups by their state", (int)id);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int group_list_run(struct remote *r, const void *args)
{
	const struct group_args *a = args;
	struct all_groups all = {0};
	struct err e = ERR_INIT;
	if (ask_groups(r, a, &all, &e) < 0) {
		group_say("%s", e.text);
		return EXIT_FAILURE;
	}
	if (all.n)
		qsort(all.v, all.n, sizeof *all.v, by_id);
	if (a->base.json) {
		json_t *list = json_array();
		for (size_t i = 0; i < all.n; i++)
			json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "group", all.v[i].id, "state", all.v[i].state, "type", all.v[i].type,
							      "protocol_type", all.v[i].protocol_type));
		return remote_print_json("spoolfs group", list) ? 0 : EXIT_FAILURE;
	}
	struct table t;
	table_init(&t, (const char *const[]){"GROUP", "STATE", "TYPE", "PROTOCOL TYPE"}, 4);
	for (size_t i = 0; i < all.n; i++) {
		const struct group_about *g = &all.v[i];
		table_text(&t, *g->id ? g->id : "\"\"");
		table_text(&t, *g->state ? g->state : NULL);
		table_text(&t, *g->type ? g->type : NULL);
		table_text(&t, *g->protocol_type ? g->protocol_type : NULL);
	}
	bool good = table_print(&t);
	table_release(&t);
	return good ? 0 : EXIT_FAILURE;
}

/* ---- delete ---- */

static int16_t delete_error(const void *response)
{
	const struct delete_groups_response *a = response;
	return a->results.n == 1 ? a->results.v[0].error_code : KAFKA_UNKNOWN_SERVER_ERROR;
}

int group_delete_run(struct remote *r, const void *args)
{
	const struct group_args *a = args;
	json_t *list = a->base.json ? json_array() : NULL;
	int status = 0;
	for (int i = 0; i < a->base.count; i++) {
		struct delete_groups_request q;
		struct delete_groups_response s;
		struct err e = ERR_INIT;
		char words[200];
		struct wire_string name = wire_string(a->base.names[i]);
		wire_init(&wire_delete_groups_request, &q);
		q.groups_names.v = &name;
		q.groups_names.n = 1;
		int rc = remote_group_call(r, a->base.names[i], API_DELETE_GROUPS, &q, &s, delete_error, &e);
		int16_t error = rc < 0 ? KAFKA_NONE : delete_error(&s);
		if (rc == 0 && error)
			rc = err_set(&e, ERR_INVALID, "%s", group_error_words(error, words));
		if (rc < 0) {
			group_say("group %s is not deleted: %s", a->base.names[i], e.text);
			status = EXIT_FAILURE;
		}
		if (a->base.json)
			json_array_append_new(list, json_pack("{s:s, s:b, s:s?}", "group", a->base.names[i], "deleted", rc == 0, "error", rc < 0 ? e.text : NULL));
	}
	if (a->base.json && !remote_print_json("spoolfs group", list))
		status = EXIT_FAILURE;
	return status;
}

/* ---- the command line ---- */

static void take_how(struct group_args *a, int key, const char *arg, struct argp_state *state)
{
	if (a->how)
		argp_error(state, "only one of --to-..., --shift-by and --by-duration can be given");
	a->how = key;
	bool good = true;
	if (key == GROUP_TO_OFFSET)
		good = remote_parse_number(arg, &a->number) && a->number >= 0;
	else if (key == GROUP_SHIFT_BY)
		good = remote_parse_number(arg, &a->number);
	else if (key == GROUP_TO_DATETIME)
		good = group_parse_datetime(arg, &a->number);
	else if (key == GROUP_BY_DURATION)
		good = group_parse_duration(arg, &a->number);
	if (!good)
		argp_error(state, "'%s' is not %s", arg, key == GROUP_TO_OFFSET ? "an offset" : key == GROUP_SHIFT_BY ? "a number"
					: key == GROUP_TO_DATETIME ? "a time like 2026-11-21T10:00:00.000" : "a duration like P1DT2H30M");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct group_args *a = state->input;
	switch (key) {
	case OPT_STATE:
		a->states[a->state_count++] = arg;
		return 0;
	case OPT_TOPIC:
		if (!group_check_topic(arg))
			argp_error(state, "'%s' is not TOPIC[:PARTITION,...]", arg);
		a->topics[a->topic_count++] = arg;
		return 0;
	case OPT_DRY_RUN:
		a->dry_run = true;
		return 0;
	case GROUP_TO_EARLIEST ... GROUP_BY_DURATION:
		take_how(a, key, arg, state);
		return 0;
	default:
		return remote_args_parse(&a->base, key, arg, state);
	}
}

static const char *misuse(const void *args)
{
	const struct group_args *a = args;
	bool reset = !strcmp(a->base.verb, "reset-offsets");
	if (a->state_count && strcmp(a->base.verb, "list"))
		return "--state goes with list";
	if (!reset && (a->topic_count || a->how || a->dry_run))
		return "--topic, --dry-run and where to set offsets to go with reset-offsets";
	if (reset && !a->topic_count)
		return "of which topics? --topic TOPIC[:PARTITION,...]";
	if (reset && !a->how)
		return "to what? One of --to-earliest, --to-latest, --to-offset, --to-datetime, --shift-by, --by-duration";
	return NULL;
}

int cmd_group(int argc, char **argv)
{
	static const struct argp_option options[] = {
		REMOTE_OPTIONS,
		{NULL, 0, NULL, 0, "With list:", 2},
		{"state", OPT_STATE, "STATE", 0, "Only groups in this state: Empty, Stable, PreparingRebalance, CompletingRebalance; may be repeated", 2},
		{NULL, 0, NULL, 0, "With reset-offsets:", 3},
		{"topic", OPT_TOPIC, "TOPIC[:PARTITION,...]", 0, "All partitions of a topic, or these; may be repeated", 3},
		{"to-earliest", GROUP_TO_EARLIEST, NULL, 0, "To the oldest message", 3},
		{"to-latest", GROUP_TO_LATEST, NULL, 0, "Behind the newest message", 3},
		{"to-offset", GROUP_TO_OFFSET, "OFFSET", 0, "To this offset", 3},
		{"to-datetime", GROUP_TO_DATETIME, "TIME", 0, "To the first message at or after a time: 2026-11-21T10:00:00.000, UTC, or with a zone behind it", 3},
		{"shift-by", GROUP_SHIFT_BY, "N", 0, "N messages further, or, negative, back: --shift-by=-10", 3},
		{"by-duration", GROUP_BY_DURATION, "DURATION", 0, "To the first message that is not older than so long: P7D, PT1H30M", 3},
		{"dry-run", OPT_DRY_RUN, NULL, 0, "Only show what would be set", 3},
		{0},
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "list\ndescribe GROUP...\nreset-offsets GROUP --topic TOPIC[:PARTITION,...] --to-...\ndelete GROUP...",
		.doc = "Consumer groups: who reads, how far, and how far behind. Over Kafka's protocol: of spoolfs and of Apache Kafka."
		       "\vThe manual is spoolfs-group(1).",
	};
	static const struct remote_verb verbs[] = {
		{"list", group_list_run, 0, 0},
		{"describe", group_describe_run, 1, 1 << 20},
		{"reset-offsets", group_reset_run, 1, 1},
		{"delete", group_delete_run, 1, 1 << 20},
		{0},
	};
	static const struct remote_command command = {"spoolfs group", "group", verbs, misuse};
	char **room = calloc(3 * (size_t)argc + 3, sizeof *room);
	struct group_args a = {.states = room + argc + 1, .topics = room + 2 * argc + 2};
	int status = EXIT_USAGE;
	remote_args_init(&a.base, room);
	if (!room)
		group_say("no memory");
	else if (!argp_parse(&argp, argc, argv, 0, NULL, &a))
		status = remote_command(&command, &a);
	free(room);
	return status;
}
