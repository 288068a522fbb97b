#include <argp.h>
#include <stdlib.h>

#include "fs/commands.h"
#include "fs/daemon.h"

/* mount(8)'s exit status for its helpers. */
enum { HELPER_USAGE = 1, HELPER_FAILED = 32 };

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct daemon_args *a = state->input;
	switch (key) {
	case ARGP_KEY_ARG:
		if (a->dir)
			argp_error(state, "one mount point is expected, not also %s", arg);
		a->dir = arg;
		return 0;
	case ARGP_KEY_END:
		if (!a->dir)
			argp_error(state, "which directory is to be the mount point?");
		return 0;
	default:
		return daemon_parse(key, arg, state);
	}
}

int cmd_mount(int argc, char **argv)
{
	static const struct argp_option options[] = {
		DAEMON_OPTIONS("Properties, and options for FUSE such as ro and allow_other", "Serve Kafka's clients there too (" DAEMON_LISTEN_DEFAULT ")"),
		{0},
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "DIR",
		.doc = "Mount a message log at DIR, which is made if only its last component is missing. Returns when the mount is ready."
		       "\vspoolfs config lists the properties. The manual is spoolfs-mount(1).",
	};
	return daemon_command(&argp, argv[0], argc, argv, EXIT_FAILURE);
}

/* ---- mount.fuse.spoolfs ---- */

static error_t parse_helper(int key, char *arg, struct argp_state *state)
{
	struct daemon_args *a = state->input;
	switch (key) {
	case 's':
		a->words.sloppy = true;
		return 0;
	case 'f':
		a->fake = true;
		return 0;
	case 'n': /* there is no mtab to leave out */
	case 'v':
	case 't':
		return 0;
	case 'o':
		a->later[a->later_count++] = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (state->arg_num == 0 && arg[0] == '/')
			a->data = arg;
		else if (state->arg_num == 1)
			a->dir = arg;
		else if (state->arg_num > 1)
			argp_usage(state);
		return 0;
	case ARGP_KEY_END:
		if (!a->dir)
			argp_usage(state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int cmd_mount_helper(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{NULL, 's', NULL, 0, "Ignore options that are not known", 0},
		{NULL, 'f', NULL, 0, "Check the arguments, but do not mount", 0},
		{NULL, 'n', NULL, 0, "Ignored", 0},
		{NULL, 'v', NULL, 0, "Ignored", 0},
		{NULL, 'o', "WORD,...", 0, "Properties, and options of mount(8)", 0},
		{NULL, 't', "TYPE", 0, "Ignored", 0},
		{0},
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse_helper,
		.args_doc = "SOURCE DIR",
		.doc = "Called by mount(8) for type fuse.spoolfs. SOURCE is the directory DATA; anything that does not begin with / takes the default.",
	};
	argp_err_exit_status = HELPER_USAGE;
	return daemon_command(&argp, "mount.fuse.spoolfs", argc, argv, HELPER_FAILED);
}
