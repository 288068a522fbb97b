#include "fs/properties.h"

#include <limits.h>

const struct conf_property fs_properties[] = {
	{.name = "linger.ms", .type = CONF_INT, .scope = CONF_BROKER | CONF_TOPIC, .preset = "0", .min = 0, .max = 60000, .unit = "ms",
	 .help = "How long small writes of a handle may gather before they are appended together; a write(2) then returns before the append, and fsync and close "
		 "report its errors. 0: every write(2) is appended at once"},
	{.name = "delivery.timeout.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "30000", .min = 100, .max = INT_MAX, .unit = "ms",
	 .help = "A write, fsync or close that is not done after this long fails with EIO, its outcome unknown"},
	{.name = "mount.readahead.bytes", .type = CONF_INT, .scope = CONF_BROKER, .preset = "33554432", .min = 0, .max = 1 << 30, .unit = "bytes",
	 .help = "Memory for reading ahead of sequential readers, all of them together; 0: no reading ahead"},
	{.name = "mount.threads", .type = CONF_INT, .scope = CONF_BROKER, .preset = "10", .min = 2, .max = 256,
	 .help = "At most this many requests of the mount are worked on at once; what waits for a replica or a lock does not count"},
	{NULL},
};
