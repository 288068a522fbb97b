#include "fs/remote_command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void remote_args_init(struct remote_args *a, char **names)
{
	*a = (struct remote_args){.bootstrap = "localhost:9092", .timeout_ms = CLIENT_TIMEOUT_MS, .names = names};
}

bool remote_parse_number(const char *text, int64_t *n)
{
	char *end;
	errno = 0;
	long long v = strtoll(text, &end, 10);
	*n = v;
	return !errno && end != text && !*end;
}

error_t remote_args_parse(struct remote_args *a, int key, char *arg, struct argp_state *state)
{
	int64_t n;
	switch (key) {
	case 'b':
		a->bootstrap = arg;
		return 0;
	case 'j':
		a->json = true;
		return 0;
	case 't':
		if (!remote_parse_number(arg, &n) || n < 1 || n > 86400)
			argp_error(state, "'%s' is not a number of seconds", arg);
		a->timeout_ms = (int)n * 1000;
		return 0;
	case ARGP_KEY_ARG:
		if (!a->verb)
			a->verb = arg;
		else
			a->names[a->count++] = arg;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_usage(state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

bool remote_print_json(const char *command, json_t *o)
{
	bool good = o && json_dumpf(o, stdout, JSON_INDENT(2)) == 0 && printf("\n") > 0;
	if (!o)
		command_say(command, "no memory");
	json_decref(o);
	return good;
}

static int unknown_verb(const struct remote_command *c, const char *verb)
{
	char list[200];
	size_t n = 0;
	for (const struct remote_verb *v = c->verbs; v->name; v++)
		n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", n ? ", " : "", v->name);
	command_say(c->name, "there is no '%s'; there are %s", verb, list);
	return EXIT_USAGE;
}

static const char *misuse(const struct remote_command *c, const struct remote_verb *v, const struct remote_args *a, char text[60])
{
	if (a->count >= v->least && a->count <= v->most)
		return c->misuse(a);
	if (!v->most)
		return "it takes no argument";
	snprintf(text, 60, a->count < v->least ? "which %s?" : "one %s at a time", c->noun);
	return text;
}

int remote_command(const struct remote_command *c, const void *args)
{
	const struct remote_args *a = args;
	const struct remote_verb *v = c->verbs;
	struct remote r;
	struct err e = ERR_INIT;
	char text[60];
	while (v->name && strcmp(v->name, a->verb))
		v++;
	if (!v->name)
		return unknown_verb(c, a->verb);
	const char *wrong = misuse(c, v, a, text);
	if (wrong) {
		command_say(c->name, "%s: %s", v->name, wrong);
		return EXIT_USAGE;
	}
	int rc = remote_open(&r, a->bootstrap, a->timeout_ms, &e);
	if (rc < 0) {
		command_say(c->name, "%s", e.text);
		return rc == ERR_INVALID ? EXIT_USAGE : EXIT_FAILURE;
	}
	int status = v->run(&r, args);
	remote_release(&r);
	return command_flush(c->name) ? status : EXIT_FAILURE;
}
