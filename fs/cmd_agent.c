#include <argp.h>
#include <stdlib.h>

#include "fs/commands.h"
#include "fs/daemon.h"

static error_t parse(int key, char *arg, struct argp_state *state)
{
	if (key != ARGP_KEY_ARG)
		return daemon_parse(key, arg, state);
	argp_error(state, "an agent has no mount point: %s is one too many", arg);
	return 0;
}

int cmd_agent(int argc, char **argv)
{
	static const struct argp_option options[] = {
		DAEMON_OPTIONS("Properties", "Serve Kafka's clients there (" DAEMON_LISTEN_DEFAULT ")"),
		{0},
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "",
		.doc = "Serve a message log to Kafka's clients, without a mount. Returns when it is served; SIGTERM ends it."
		       "\vspoolfs config lists the properties. The manual is spoolfs-agent(1).",
	};
	return daemon_command(&argp, argv[0], argc, argv, EXIT_FAILURE);
}
