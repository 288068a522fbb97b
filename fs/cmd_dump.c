#include <argp.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/cmd_dump.h"
#include "fs/commands.h"
#include "store/checkpoint.h"
#include "store/io.h"

static const char command[] = "spoolfs dump";

/* What Kafka and spoolfs keep in a log directory. A name that begins with a dot is a suffix: of a segment's file, listed in this order. */
static const struct kind {
	const char *name;
	dump_fn dump;
} kinds[] = {
	{".log", dump_log},
	{".cut", dump_log},
	{".index", dump_index},
	{".timeindex", dump_timeindex},
	{".txnindex", dump_txnindex},
	{".view", dump_view},
	{".snapshot", dump_snapshot},
	{"leader-epoch-checkpoint", dump_epochs},
	{RECOVERY_POINT_FILE, dump_offsets},
	{LOG_START_FILE, dump_offsets},
	{HIGH_WATERMARK_FILE, dump_offsets},
	{"cleaner-offset-checkpoint", dump_offsets},
	{VIEW_START_FILE, dump_view_start},
	{PARTITION_STATE_FILE, dump_partition_state},
	{"partition.metadata", dump_text},
	{"meta.properties", dump_text},
	{"topic.properties", dump_text},
};
enum { KINDS = sizeof kinds / sizeof *kinds, BASE_DIGITS = 20 };

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

/* The 20 digits that a segment's file begins with. */
static bool parse_base(const char *name, int64_t *base)
{
	for (int i = 0; i < BASE_DIGITS; i++)
		if (!isdigit((unsigned char)name[i]))
			return false;
	*base = strtoll(name, NULL, 10);
	return name[BASE_DIGITS] == '.';
}

static bool is_suffix_of(const char *suffix, const char *name, size_t len)
{
	size_t n = strlen(suffix);
	return suffix[0] == '.' && len > n && !memcmp(name + len - n, suffix, n);
}

/* NULL: nothing that is known. *retired: it is on its way out or in, and its content stands elsewhere too. */
static const struct kind *kind_of(const char *name, bool *retired)
{
	static const char *const states[] = {".deleted", ".swap", ".cleaned"};
	size_t len = strlen(name), whole = len;
	for (size_t i = 0; i < sizeof states / sizeof *states; i++)
		if (is_suffix_of(states[i], name, len))
			len -= strlen(states[i]);
	*retired = len < whole;
	for (int i = 0; i < KINDS; i++)
		if (is_suffix_of(kinds[i].name, name, len) || !strcmp(kinds[i].name, name))
			return &kinds[i];
	return NULL;
}

/* What each part of the work comes to is an exit status; the greatest counts. */
static int worse(int a, int b)
{
	return a > b ? a : b;
}

static int unreadable(const struct err *e)
{
	command_say(command, "%s", e->text);
	return EXIT_USAGE;
}

static int dump_file(const struct kind *kind, const char *path, bool records)
{
	struct dump d = {.path = path, .records = records};
	struct err e = ERR_INIT;
	if (!parse_base(base_name(path), &d.base_offset))
		d.base_offset = 0;
	int rc = kind->dump(&d, &e);
	return rc < 0 ? unreadable(&e) : rc > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---- directories ---- */

struct listing {
	struct listed { char *name; const struct kind *kind; bool retired; int64_t base; } *file;
	size_t n, cap;
};

static int list_file(void *arg, const char *name, unsigned char type)
{
	struct listing *l = arg;
	bool retired;
	const struct kind *kind = kind_of(name, &retired);
	int64_t base = INT64_MAX; /* behind the segments */
	/* a log of another kind (spoolfs.log) is not meant */
	if (type != DT_REG || !kind || (!parse_base(name, &base) && kind->name[0] == '.'))
		return 0;
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;
		struct listed *file = realloc(l->file, cap * sizeof *file);
		if (!file)
			return -ENOMEM;
		l->file = file;
		l->cap = cap;
	}
	l->file[l->n] = (struct listed){strdup(name), kind, retired, base};
	return l->file[l->n].name ? (l->n++, 0) : -ENOMEM;
}

static int by_base(const void *a, const void *b)
{
	const struct listed *x = a, *y = b;
	if (x->retired != y->retired)
		return x->retired - y->retired;
	if (x->base != y->base)
		return x->base < y->base ? -1 : 1;
	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	return strcmp(x->name, y->name);
}

static int dump_dir(const char *dir, bool records)
{
	struct listing l = {0};
	struct err e = ERR_INIT;
	int sys = io_list(dir, list_file, &l), status = EXIT_SUCCESS;
	size_t shown = 0;
	if (sys >= 0 && l.n)
		qsort(l.file, l.n, sizeof *l.file, by_base);
	for (size_t i = 0; i < l.n && sys >= 0; i++) {
		char path[PATH_MAX];
		if (records && (l.file[i].kind->dump != dump_log || l.file[i].retired))
			continue;
		snprintf(path, sizeof path, "%s/%s", dir, l.file[i].name);
		if (!records)
			printf("%s== %s\n", shown ? "\n" : "", path);
		shown++;
		status = worse(status, dump_file(l.file[i].kind, path, records));
	}
	if (sys < 0)
		err_sys(&e, sys, "cannot list %s", dir);
	else if (!shown)
		err_set(&e, ERR_NOT_FOUND, "%s: no %s here", dir, records ? "segment (.log)" : "file of a log");
	for (size_t i = 0; i < l.n; i++)
		free(l.file[i].name);
	free(l.file);
	return e.code ? unreadable(&e) : status;
}

static int dump_path(const char *path, bool records)
{
	struct stat st;
	struct err e = ERR_INIT;
	bool retired;
	const struct kind *kind = kind_of(base_name(path), &retired);
	int sys = io_stat(path, &st);
	if (sys >= 0 && S_ISDIR(st.st_mode))
		return dump_dir(path, records);
	if (sys >= 0 && kind && (!records || kind->dump == dump_log))
		return dump_file(kind, path, records);
	if (sys < 0)
		err_sys(&e, sys, "cannot look at %s", path);
	else if (!kind)
		err_set(&e, ERR_UNSUPPORTED, "%s: by its name no file of a log (.log, .index, .timeindex, .txnindex, .view, .snapshot, a checkpoint)", path);
	else
		err_set(&e, ERR_INVALID, "%s has no records: --records is for .log files and directories", path);
	return unreadable(&e);
}

/* ---- the command ---- */

struct dump_args {
	char **paths; /* borrowed from argv */
	int count;
	bool records;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct dump_args *a = state->input;
	(void)arg;
	switch (key) {
	case 'r':
		a->records = true;
		return 0;
	case ARGP_KEY_ARGS:
		a->paths = state->argv + state->next;
		a->count = state->argc - state->next;
		state->next = state->argc;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "which file, or directory of a partition?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int cmd_dump(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{"records", 'r', NULL, 0, "Print the records, a JSON object a line", 0},
		{0},
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "FILE|PARTITION-DIR...",
		.doc = "Print what is in the files of a Kafka log: a line for each batch, index entry and so on. Nothing needs to be mounted or running."
		       "\vDamaged places are shown and skipped; the exit status is then 1. The manual is spoolfs-dump(1).",
	};
	struct dump_args a = {0};
	int status = EXIT_SUCCESS;
	if (argp_parse(&argp, argc, argv, 0, NULL, &a))
		return EXIT_USAGE;
	for (int i = 0; i < a.count; i++)
		status = worse(status, dump_path(a.paths[i], a.records));
	return command_flush(command) ? status : EXIT_FAILURE;
}
