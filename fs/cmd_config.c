#include <argp.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/commands.h"
#include "store/conf.h"

enum { OPT_JSON = 'j', OPT_MAN = 1000 };
enum form { FORM_TEXT, FORM_JSON, FORM_MAN };

struct config_args {
	enum form form;
	char **names; /* borrowed; NULL: every property */
	int count;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct config_args *a = state->input;
	(void)arg;
	switch (key) {
	case OPT_JSON:
		a->form = FORM_JSON;
		return 0;
	case OPT_MAN:
		a->form = FORM_MAN;
		return 0;
	case ARGP_KEY_ARGS:
		a->names = state->argv + state->next;
		a->count = state->argc - state->next;
		state->next = state->argc;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const char *type_name(const struct conf_property *p)
{
	switch (p->type) {
	case CONF_BOOL:
		return "boolean";
	case CONF_INT:
		return "integer";
	case CONF_STRING:
		return "string";
	case CONF_ENUM:
		return "enum";
	case CONF_LIST:
		return "list";
	case CONF_DOUBLE:
		return "double";
	}
	return "";
}

/* What is allowed, as a person would say it. */
static void range_text(const struct conf_property *p, char *text, size_t size)
{
	const char *gap = p->unit ? " " : "", *unit = p->unit ? p->unit : "";
	bool bounded = p->min || p->max;
	if (p->type == CONF_BOOL)
		snprintf(text, size, "true, false");
	else if (p->choices && p->type == CONF_ENUM)
		snprintf(text, size, "%s", p->choices);
	else if (p->choices)
		snprintf(text, size, "any of %s", p->choices);
	else if ((p->type != CONF_INT && p->type != CONF_DOUBLE) || (!bounded && !p->unit))
		snprintf(text, size, "any");
	else if (!bounded)
		snprintf(text, size, "%s", unit);
	else if (p->max == INT64_MAX)
		snprintf(text, size, "%" PRId64 " or more%s%s", p->min, gap, unit);
	else if (p->min == INT64_MIN)
		snprintf(text, size, "%" PRId64 " or less%s%s", p->max, gap, unit);
	else
		snprintf(text, size, "%" PRId64 " to %" PRId64 "%s%s", p->min, p->max, gap, unit);
}

static bool is_wanted(const struct config_args *a, const struct conf_property *p)
{
	for (int i = 0; i < a->count; i++)
		if (!strcmp(a->names[i], p->name))
			return true;
	return !a->count && !p->hidden;
}

/* The two groups: a property that may be set in both places stands in the first, and says so. */
static bool is_in_group(const struct conf_property *p, unsigned group)
{
	return group == CONF_BROKER ? p->scope & CONF_BROKER : !(p->scope & CONF_BROKER);
}

/* What a topic takes where its own file says nothing, and the units that a value may be given in. */
static void print_relations(const struct conf_property *p, const char *open, const char *close)
{
	if (p->broker_name)
		printf("%sDefault for all topics: %s%s", open, p->broker_name, close);
	if (p->finer)
		printf("%s%s wins where both are set%s", open, p->finer, close);
	if (p->scope == (CONF_BROKER | CONF_TOPIC))
		printf("%sMay be set for one topic too%s", open, close);
}

/* ---- text ---- */

enum { COLUMNS = 4 };

static void columns_of(const struct conf_property *p, const char *column[COLUMNS], char *range, size_t range_size)
{
	range_text(p, range, range_size);
	column[0] = p->name;
	column[1] = type_name(p);
	column[2] = p->preset ? p->preset : "-";
	column[3] = range;
}

static void print_help(const char *help)
{
	enum { WIDTH = 100 };
	for (int used = 0; *help;) {
		int word = (int)strcspn(help, " ");
		if (!used || used + 1 + word > WIDTH) {
			printf("%s   ", used ? "\n" : "");
			used = 3;
		}
		printf(" %.*s", word, help);
		used += 1 + word;
		help += word + strspn(help + word, " ");
	}
	printf("\n");
}

static void print_text_group(const struct config_args *a, const struct conf_property *const *row, size_t n, unsigned group)
{
	int width[COLUMNS] = {4, 4, 7, 5};
	const char *column[COLUMNS] = {"NAME", "TYPE", "DEFAULT", "RANGE"};
	char range[300];
	bool any = false;
	for (size_t i = 0; i < n; i++) {
		const char *c[COLUMNS];
		if (!is_wanted(a, row[i]) || !is_in_group(row[i], group))
			continue;
		columns_of(row[i], c, range, sizeof range);
		for (int k = 0; k < COLUMNS; k++)
			if ((int)strlen(c[k]) > width[k])
				width[k] = (int)strlen(c[k]);
		any = true;
	}
	if (!any)
		return;
	printf("%s\n\n", group == CONF_BROKER ? "BROKER: in a file given with -c, or -o NAME=VALUE" : "TOPIC: in DIR/TOPIC/.config");
	printf("%-*s  %-*s  %-*s  %s\n", width[0], column[0], width[1], column[1], width[2], column[2], column[3]);
	for (size_t i = 0; i < n; i++) {
		if (!is_wanted(a, row[i]) || !is_in_group(row[i], group))
			continue;
		columns_of(row[i], column, range, sizeof range);
		printf("%-*s  %-*s  %-*s  %s\n", width[0], column[0], width[1], column[1], width[2], column[2], column[3]);
		print_help(row[i]->help);
		print_relations(row[i], "    (", ")\n");
	}
}

static void print_text(const struct config_args *a, const struct conf_property *const *row, size_t n)
{
	bool broker = false, topic = false;
	for (size_t i = 0; i < n; i++)
		if (is_wanted(a, row[i]))
			*(is_in_group(row[i], CONF_BROKER) ? &broker : &topic) = true;
	print_text_group(a, row, n, CONF_BROKER);
	if (broker && topic)
		printf("\n");
	print_text_group(a, row, n, CONF_TOPIC);
}

/* ---- JSON ---- */

static json_t *json_row(const struct conf_property *p)
{
	json_t *scope = json_array();
	if (p->scope & CONF_BROKER)
		json_array_append_new(scope, json_string("broker"));
	if (p->scope & CONF_TOPIC)
		json_array_append_new(scope, json_string("topic"));
	json_t *o = json_pack("{s:s, s:s, s:o, s:s?, s:s}", "name", p->name, "type", type_name(p), "scope", scope, "default", p->preset, "help", p->help);
	if ((p->type == CONF_INT || p->type == CONF_DOUBLE) && (p->min || p->max)) {
		json_object_set_new(o, "min", json_integer(p->min));
		json_object_set_new(o, "max", json_integer(p->max));
	}
	if (p->unit)
		json_object_set_new(o, "unit", json_string(p->unit));
	if (p->choices)
		json_object_set_new(o, "choices", json_string(p->choices));
	if (p->broker_name)
		json_object_set_new(o, "broker_name", json_string(p->broker_name));
	if (p->finer)
		json_object_set_new(o, "finer", json_string(p->finer));
	return o;
}

static int print_json(const struct config_args *a, const struct conf_property *const *row, size_t n)
{
	json_t *list = json_array();
	int failed = !list;
	for (size_t i = 0; i < n && !failed; i++)
		if (is_wanted(a, row[i]))
			failed = json_array_append_new(list, json_row(row[i]));
	failed = failed || json_dumpf(list, stdout, JSON_INDENT(2)) < 0 || printf("\n") < 0;
	json_decref(list);
	return failed;
}

/* ---- the manual page ---- */

/* A line of text for roff: what it would take for its own is escaped. */
static void put_roff(const char *text)
{
	if (*text == '.' || *text == '\'')
		printf("\\&");
	for (; *text; text++) {
		if (*text == '\\')
			printf("\\e");
		else if (*text == '-')
			printf("\\-");
		else
			putchar(*text);
	}
}

static void print_man_row(const struct conf_property *p)
{
	char range[300];
	range_text(p, range, sizeof range);
	printf(".TP\n.B ");
	put_roff(p->name);
	printf("\n");
	put_roff(p->help);
	printf(".\n.br\n%s; ", type_name(p));
	put_roff(range);
	printf("; default ");
	put_roff(p->preset ? p->preset : "none");
	printf(".\n");
	if (p->broker_name)
		printf("For all topics:\n.BR %s .\n", p->broker_name);
	if (p->finer)
		printf("Where both are set,\n.B %s\nwins.\n", p->finer);
	if (p->scope == (CONF_BROKER | CONF_TOPIC))
		printf("May be set for one topic too.\n");
}

static void print_man(const struct config_args *a, const struct conf_property *const *row, size_t n)
{
	printf(".TH SPOOLFS.PROPERTIES 5 \"2026-11-21\" \"\" \"spoolfs\"\n.SH NAME\nspoolfs.properties \\- the properties of spoolfs, its topics and their logs\n");
	printf(".SH DESCRIPTION\nA file of lines\n.IR name = value ,\nread by\n.B spoolfs mount \\-c\n.IR FILE ;\nempty lines and those that begin with # or ! are skipped,\n"
	       "a backslash at the end joins a line with the next.\nSingle properties are given with\n.B \\-o\n.IR name = value .\n"
	       "Those of a topic are set by\n.I name=value\nlines appended to\n.IR DIR / TOPIC /.config ;\na line\n.I name=\ntakes one back.\n"
	       "Names that Kafka has mean what they mean there.\n.PP\n"
	       "An unknown name or a value out of its range is an error that names what is allowed.\n");
	for (unsigned group = CONF_BROKER; group <= CONF_TOPIC; group++) {
		printf(".SH %s\n", group == CONF_BROKER ? "BROKER PROPERTIES" : "TOPIC PROPERTIES");
		for (size_t i = 0; i < n; i++)
			if (is_wanted(a, row[i]) && is_in_group(row[i], group))
				print_man_row(row[i]);
	}
	printf(".SH SEE ALSO\n.BR spoolfs (1),\n.BR spoolfs\\-mount (1),\n.BR spoolfs\\-config (1)\n");
}

static int check_names(const struct config_args *a, const struct conf_schema *schema)
{
	for (int i = 0; i < a->count; i++) {
		if (conf_find(schema, a->names[i]))
			continue;
		/* setting it somewhere is how to get the sentence with the nearest name */
		struct err e = ERR_INIT;
		struct conf *c = conf_new(schema, NULL, CONF_BROKER | CONF_TOPIC);
		if (c)
			conf_set(c, a->names[i], "", &e);
		conf_free(c);
		command_say("spoolfs config", "%s", e.text);
		return EXIT_USAGE;
	}
	return 0;
}

int cmd_config(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{"json", OPT_JSON, NULL, 0, "Print a JSON array of objects", 0},
		{"man", OPT_MAN, NULL, 0, "Print the manual page spoolfs.properties(5)", 0},
		{0},
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "[NAME...]",
		.doc = "List the properties: type, default, range, help; with NAMEs, only those.",
	};
	struct config_args a = {0};
	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return EXIT_USAGE;
	struct conf_schema *schema = commands_schema();
	if (!schema) {
		command_say("spoolfs config", "no memory");
		return EXIT_FAILURE;
	}
	size_t n;
	const struct conf_property *const *row = conf_rows(schema, &n);
	int rc = check_names(&a, schema);
	if (!rc && a.form == FORM_JSON)
		rc = print_json(&a, row, n) ? EXIT_FAILURE : 0;
	else if (!rc && a.form == FORM_MAN)
		print_man(&a, row, n);
	else if (!rc)
		print_text(&a, row, n);
	conf_schema_free(schema);
	return command_flush("spoolfs config") ? rc : EXIT_FAILURE;
}
