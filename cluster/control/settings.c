#include "cluster/control/settings.h"

#include <limits.h>

enum { MAX_MULTI_BYTES = 512 << 10 }; /* half of what a server takes by default */

const struct conf_property control_properties[] = {
	{.name = "auto.leader.rebalance.enable", .type = CONF_BOOL, .scope = CONF_BROKER, .preset = "true",
	 .help = "whether the controller gives leaderships back to the first replica of each partition, where a broker has lost more of its own than leader.imbalance.per.broker.percentage"},
	{.name = "controller.socket.timeout.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "30000", .min = 1, .max = INT_MAX, .unit = "ms",
	 .help = "how long the controller waits for a broker's answer before it asks again"},
	{.name = "leader.imbalance.check.interval.seconds", .type = CONF_INT, .scope = CONF_BROKER, .preset = "300", .min = 1, .max = INT_MAX / 1000, .unit = "s",
	 .help = "how often the controller looks for brokers that lead too little"},
	{.name = "leader.imbalance.per.broker.percentage", .type = CONF_INT, .scope = CONF_BROKER, .preset = "10", .min = 0, .max = 100,
	 .help = "how many of the partitions of which a broker is the first replica others may lead"},
	{.name = "unclean.recovery.timeout.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "300000", .min = 0, .max = INT_MAX, .unit = "ms",
	 .help = "when all in-sync replicas that are there have lost their power: how long those that are away are waited for, as they may have everything; then the fullest leads"},
	{0},
};

void control_settings_read(struct control_settings *s, const struct conf *c)
{
	*s = (struct control_settings){
		.brain = {.max_multi_bytes = MAX_MULTI_BYTES, .auto_balance = conf_bool(c, "auto.leader.rebalance.enable"),
			  .balance_interval_ms = conf_int(c, "leader.imbalance.check.interval.seconds") * 1000,
			  .imbalance_percent = (int)conf_int(c, "leader.imbalance.per.broker.percentage"), .unclean_elections = conf_bool(c, "unclean.leader.election.enable"),
			  .unclean_wait_ms = conf_int(c, "unclean.recovery.timeout.ms")},
		.request_timeout_ms = (int)conf_int(c, "controller.socket.timeout.ms"),
	};
}
