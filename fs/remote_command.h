/*
 * remote_command: what the commands that speak to a cluster (spoolfs topic, spoolfs group) have in common: a verb, names, a broker to ask, --json and --timeout.
 *
 * thread: one.
 */
#ifndef FS_REMOTE_COMMAND_H
#define FS_REMOTE_COMMAND_H

#include <argp.h>
#include <jansson.h>

#include "fs/commands.h"
#include "fs/remote.h"

struct remote_args { /* the first member of a command's own */
	const char *verb;      /* "list", ... */
	const char *bootstrap;
	char **names;          /* borrowed from argv */
	int count;
	int timeout_ms;
	bool json;
};

struct remote_verb {
	const char *name;
	int (*run)(struct remote *r, const void *args); /* returns the exit status; stdout is flushed by remote_command */
	int least, most;       /* names */
};

struct remote_command {
	const char *name;      /* "spoolfs topic" */
	const char *noun;      /* "topic" */
	const struct remote_verb *verbs; /* up to one without a name */
	const char *(*misuse)(const void *args); /* what argp cannot say: which options go with which verb; NULL: all is well */
};

/* Rows for a table of argp's options, in its first group. */
#define REMOTE_OPTIONS \
	{NULL, 0, NULL, 0, "Everywhere:", 1}, \
	{"bootstrap-server", 'b', "HOST[:PORT],...", 0, "A broker, spoolfs or Apache Kafka; default localhost:9092", 1}, \
	{"json", 'j', NULL, 0, "Print a JSON array of objects", 1}, \
	{"timeout", 't', "SECONDS", 0, "How long to wait for an answer; default 30", 1}

/* names has room for all of argv. */
void remote_args_init(struct remote_args *a, char **names);
/* What an argp parser does with these options and with arguments. */
error_t remote_args_parse(struct remote_args *a, int key, char *arg, struct argp_state *state);
bool remote_parse_number(const char *text, int64_t *n); /* false: it is none */

/* Runs the verb; args begins with struct remote_args. Returns the exit status. */
int remote_command(const struct remote_command *c, const void *args);

/* Takes o. false, with a message: no memory, or it cannot be written. */
bool remote_print_json(const char *command, json_t *o);

#endif
