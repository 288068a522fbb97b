#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/api/server.h"
#include "fs/commands.h"
#include "fs/properties.h"
#include "fs/version.h"
#include "store/conf.h"
#include "store/entries.h"

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *what;
} commands[] = {
	{"mount", cmd_mount, "mount a message log as a directory"},
	{"agent", cmd_agent, "serve a message log to Kafka's clients, without a mount"},
	{"umount", cmd_umount, "unmount it, and wait until everything is on disk"},
	{"topic", cmd_topic, "create, list, describe, alter and delete topics"},
	{"group", cmd_group, "list and describe consumer groups, set their offsets, delete them"},
	{"dump", cmd_dump, "print what is in the files of a log"},
	{"verify", cmd_verify, "check every batch, index and view entry"},
	{"config", cmd_config, "list the properties: type, range, default, help"},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

const char *argp_program_version = "spoolfs " SPOOLFS_VERSION;

struct conf_schema *commands_schema(void)
{
	return server_schema(fs_properties);
}

void command_say(const char *command, const char *fmt, ...)
{
	char text[1200];
	int n = snprintf(text, sizeof text, "%s: ", command);
	va_list ap;
	va_start(ap, fmt);
	int more = vsnprintf(text + n, sizeof text - (size_t)n, fmt, ap);
	va_end(ap);
	size_t len = more < 0 ? (size_t)n : (size_t)(n + more);
	if (len > sizeof text - 2)
		len = sizeof text - 2;
	text[len++] = '\n';
	fflush(stdout); /* so that the order on a terminal is the order of events */
	if (write(STDERR_FILENO, text, len) < 0)
		return;
}

bool command_flush(const char *command)
{
	errno = 0;
	if (!fflush(stdout) && !ferror(stdout))
		return true;
	command_say(command, "cannot write the output: %s", errno ? strerror(errno) : "an earlier write failed");
	return false;
}

static int unknown_command(const char *name)
{
	char list[100] = "";
	for (int i = 0; i < COMMANDS; i++)
		snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", commands[i].name);
	command_say("spoolfs", "there is no command '%s'; there are %s", name, list);
	return EXIT_USAGE;
}

static int run(const struct command *c, int argc, char **argv)
{
	char name[32];
	snprintf(name, sizeof name, "spoolfs %s", c->name);
	argv[0] = name;
	return c->run(argc, argv);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	int *first = state->input;
	(void)arg;
	switch (key) {
	case ARGP_KEY_ARG: /* the command: what follows is its own to parse */
		*first = state->next - 1;
		state->next = state->argc;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_usage(state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* The list of commands stands behind the options. */
static char *help_filter(int key, const char *text, void *input)
{
	(void)input;
	if (key != ARGP_KEY_HELP_POST_DOC)
		return (char *)text;
	char *list = NULL;
	size_t n;
	FILE *f = open_memstream(&list, &n);
	if (!f)
		return (char *)text;
	fprintf(f, "Commands:\n");
	for (int i = 0; i < COMMANDS; i++)
		fprintf(f, "  %-8s %s\n", commands[i].name, commands[i].what);
	fprintf(f, "\nspoolfs COMMAND --help tells more; the manual is spoolfs(1).");
	fclose(f);
	return list;
}

/* A descriptor 0, 1 or 2 that was closed would go to the next file that is opened, a log of messages say, and what is printed into that. */
static void open_standard_files(void)
{
	int fd;
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

/* Memory of that size goes back to the system when it is freed: glibc's own threshold rises with what is used, and windows and blocks would stay for good. */
enum { LARGE_BYTES = 256 << 10 };

int main(int argc, char **argv)
{
	static const struct argp argp = {
		.parser = parse,
		.args_doc = "COMMAND [ARGUMENT...]",
		.doc = "A message log that you mount: topics are directories, partitions are append-only files, and on disk it is a Kafka log.\v",
		.help_filter = help_filter,
	};
	open_standard_files();
	mallopt(M_MMAP_THRESHOLD, LARGE_BYTES);
	entries_guard_reads();
	argp_err_exit_status = EXIT_USAGE;
	const char *name = argc ? strrchr(argv[0], '/') : NULL;
	name = name ? name + 1 : argc ? argv[0] : "spoolfs";
	/* mount(8) calls mount.fuse.spoolfs where that is installed; without it mount.fuse of libfuse calls `spoolfs SOURCE DIR -o ...`. */
	if (!strcmp(name, "mount.fuse.spoolfs") || (argc > 2 && argv[1][0] == '/'))
		return cmd_mount_helper(argc, argv);
	int first = 0;
	if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &first))
		return EXIT_USAGE;
	for (int i = 0; i < COMMANDS; i++)
		if (!strcmp(argv[first], commands[i].name))
			return run(&commands[i], argc - first, argv + first);
	return unknown_command(argv[first]);
}
