#include "fs/cmd_topic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/clock.h"

enum { OPT_SETTING = 'o', OPT_PARTITIONS = 'p', OPT_REPLICAS = 'r', OPT_ALL = 'a', OPT_UNDER = 0x100, OPT_UNAVAILABLE };

/* ---- shared ---- */

const char *topic_error_words(int16_t code, struct wire_string said, char text[1000])
{
	const char *words = "";
	if (said.n > 0) {
		int n = said.n;
		while (n > 1 && said.s[n - 1] == '.')
			n--;
		snprintf(text, 1000, "%.*s (%s)", n > 800 ? 800 : n, said.s, kafka_error_name(code));
		return text;
	}
	switch (code) {
	case KAFKA_UNKNOWN_TOPIC_OR_PARTITION:
		words = "there is no such topic";
		break;
	case KAFKA_REQUEST_TIMED_OUT:
		words = "it was not done in time, and may still be";
		break;
	case KAFKA_TOPIC_AUTHORIZATION_FAILED:
	case KAFKA_CLUSTER_AUTHORIZATION_FAILED:
		words = "the broker does not allow it";
		break;
	case KAFKA_LEADER_NOT_AVAILABLE:
		words = "the partition has no leader";
		break;
	default:
		break;
	}
	snprintf(text, 1000, "%s%s%s", words, *words ? ": " : "", kafka_error_name(code));
	return text;
}

/* *id REMOTE_ANY: there is none, or it is not known yet. */
static int controller_of(struct remote *r, int32_t *id, struct err *e)
{
	struct metadata_request q;
	struct metadata_response a;
	struct metadata_request_topic none;
	wire_init(&wire_metadata_request, &q);
	q.allow_auto_topic_creation = false;
	q.topics.v = &none;
	q.topics.n = 0;
	int rc = remote_call(r, REMOTE_ANY, API_METADATA, &q, &a, e);
	if (rc == 0)
		*id = a.controller_id < 0 ? REMOTE_ANY : a.controller_id;
	return rc;
}

int topic_controller_call(struct remote *r, int api_key, const void *request, void *response, int16_t (*error_of)(const void *response), struct err *e)
{
	mono_t deadline = mono_after_ms(mono_now(), r->timeout_ms);
	int32_t id = REMOTE_ANY;
	for (bool asked = false;; asked = true) {
		int rc = remote_call(r, id, api_key, request, response, e);
		if (rc < 0 || error_of(response) != KAFKA_NOT_CONTROLLER || mono_now().ns >= deadline.ns)
			return rc;
		if ((rc = controller_of(r, &id, e)) < 0)
			return rc;
		if (asked || id == REMOTE_ANY) /* a cluster that has just begun, or lost its controller */
			nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
	}
}

/* ---- the command line ---- */

static int64_t parse_number(const char *text, int64_t most, const char *what, struct argp_state *state)
{
	int64_t n;
	if (!remote_parse_number(text, &n) || n < 1 || n > most)
		argp_error(state, "'%s' is not a number of %s", text, what);
	return n;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct topic_args *a = state->input;
	switch (key) {
	case OPT_ALL:
		a->all = true;
		return 0;
	case OPT_UNDER:
		a->under_replicated = true;
		return 0;
	case OPT_UNAVAILABLE:
		a->unavailable = true;
		return 0;
	case OPT_PARTITIONS:
		a->partitions = (int32_t)parse_number(arg, INT32_MAX, "partitions", state);
		return 0;
	case OPT_REPLICAS:
		a->replication_factor = (int16_t)parse_number(arg, INT16_MAX, "replicas", state);
		return 0;
	case OPT_SETTING:
		if (!strchr(arg, '=') || *arg == '=')
			argp_error(state, "'%s' is not NAME=VALUE", arg);
		a->settings[a->setting_count++] = arg;
		return 0;
	default:
		return remote_args_parse(&a->base, key, arg, state);
	}
}

static const char *misuse(const void *args)
{
	const struct topic_args *a = args;
	const char *verb = a->base.verb;
	bool create = !strcmp(verb, "create"), alter = !strcmp(verb, "alter"), look = !strcmp(verb, "list") || !strcmp(verb, "describe");
	if (a->all && !look)
		return "--all goes with list and describe";
	if ((a->under_replicated || a->unavailable) && !look)
		return "--under-replicated and --unavailable go with list and describe";
	if (a->all && a->base.count)
		return "either --all, or some topics";
	if (a->replication_factor && !create)
		return "--replication-factor goes with create";
	if ((a->partitions || a->setting_count) && !create && !alter)
		return "--partitions and --option go with create and alter";
	if (alter && !a->partitions && !a->setting_count)
		return "what is to be altered? --partitions N, or --option NAME=VALUE";
	for (int i = 0; create && i < a->setting_count; i++)
		if (!strchr(a->settings[i], '=')[1])
			return "a property needs a value: --option NAME=VALUE";
	return NULL;
}

int cmd_topic(int argc, char **argv)
{
	static const struct argp_option options[] = {
		REMOTE_OPTIONS,
		{NULL, 0, NULL, 0, "With create and alter:", 2},
		{"partitions", OPT_PARTITIONS, "N", 0, "How many there are to be: as the broker has it, if not given; never fewer than before", 2},
		{"option", OPT_SETTING, "NAME=VALUE", 0, "A property of the topic, named as Kafka's; alter: NAME= takes it back; may be repeated", 2},
		{NULL, 0, NULL, 0, "With create:", 3},
		{"replication-factor", OPT_REPLICAS, "N", 0, "On how many brokers each partition is kept", 3},
		{NULL, 0, NULL, 0, "With list and describe:", 4},
		{"all", OPT_ALL, NULL, 0, "Internal topics too", 4},
		{"under-replicated", OPT_UNDER, NULL, 0, "Only partitions that have fewer replicas in sync than replicas, and their topics", 4},
		{"unavailable", OPT_UNAVAILABLE, NULL, 0, "Only partitions that nobody leads, and their topics; both: what is either", 4},
		{0},
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "create NAME\nlist\ndescribe [NAME...]\nalter NAME\ndelete NAME...",
		.doc = "Topics, over Kafka's protocol: of spoolfs and of Apache Kafka."
		       "\vspoolfs config lists the properties of spoolfs' own topics. The manual is spoolfs-topic(1).",
	};
	static const struct remote_verb verbs[] = {
		{"create", topic_create_run, 1, 1},
		{"list", topic_list_run, 0, 0},
		{"describe", topic_describe_run, 0, 1 << 20},
		{"alter", topic_alter_run, 1, 1},
		{"delete", topic_delete_run, 1, 1 << 20},
		{0},
	};
	static const struct remote_command command = {"spoolfs topic", "topic", verbs, misuse};
	char **room = calloc(2 * (size_t)argc + 2, sizeof *room);
	struct topic_args a = {.settings = room + argc + 1};
	int status = EXIT_USAGE;
	remote_args_init(&a.base, room);
	if (!room)
		topic_say("no memory");
	else if (!argp_parse(&argp, argc, argv, 0, NULL, &a))
		status = remote_command(&command, &a);
	free(room);
	return status;
}
