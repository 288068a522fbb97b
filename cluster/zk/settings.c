#include "cluster/zk/settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cluster/zk/layout.h"
#include "store/io.h"

const struct conf_property zk_properties[] = {
	{.name = "broker.rack", .type = CONF_STRING, .scope = CONF_BROKER, .help = "where this broker stands; replicas of a partition are spread over racks"},
	{.name = "zookeeper.connect", .type = CONF_STRING, .scope = CONF_BROKER, .check = zk_check_connect,
	 .help = "the ZooKeeper that holds a cluster together: host:port, several separated by commas, then a path in it if wanted, as in zk1:2181,zk2:2181/spool; not set: one broker alone"},
	{.name = "zookeeper.connection.timeout.ms", .type = CONF_INT, .scope = CONF_BROKER, .min = 1, .max = INT32_MAX, .unit = "ms",
	 .help = "how long the start waits for ZooKeeper; not set: zookeeper.session.timeout.ms"},
	{.name = "zookeeper.credentials.file", .type = CONF_STRING, .scope = CONF_BROKER,
	 .help = "a file with one line, user:password, by which ZooKeeper knows us (scheme digest); nobody but its owner may read it"},
	{.name = "zookeeper.max.in.flight.requests", .type = CONF_INT, .scope = CONF_BROKER, .preset = "10", .min = 1, .max = INT32_MAX,
	 .help = "requests to ZooKeeper that are not answered; further ones wait"},
	{.name = "zookeeper.session.timeout.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "18000", .min = 1, .max = INT32_MAX, .unit = "ms",
	 .help = "after so long without a sign of life a broker counts as dead; the ZooKeeper servers bound it to 2 and 20 of their ticks"},
	{.name = "zookeeper.set.acl", .type = CONF_BOOL, .scope = CONF_BROKER, .preset = "false",
	 .help = "whether what we make in ZooKeeper may be changed by us alone; needs zookeeper.credentials.file"},
	{0},
};

static int read_credentials(struct zk_settings *s, const char *path, struct err *e)
{
	struct stat st;
	char *text = NULL;
	size_t n;
	int sys = io_stat(path, &st);
	if (sys == 0 && st.st_mode & (S_IRWXG | S_IRWXO))
		return err_set(e, ERR_DENIED, "zookeeper.credentials.file=%s: others than its owner may read it: chmod 600", path);
	if (sys == 0)
		sys = io_read_file(path, sizeof s->credentials, &text, &n);
	if (sys < 0)
		return err_sys(e, sys, "zookeeper.credentials.file=%s: cannot read it", path);
	size_t line = strcspn(text, "\r\n");
	const char *colon = memchr(text, ':', line);
	bool good = colon && colon > text && line < sizeof s->credentials && !text[line + strspn(text + line, "\r\n")] && strlen(text) == n;
	if (good) {
		memcpy(s->credentials, text, line);
		s->credentials[line] = '\0';
	}
	explicit_bzero(text, n);
	free(text);
	return good ? 0 : err_set(e, ERR_INVALID, "zookeeper.credentials.file=%s: it should have one line, user:password", path);
}

int zk_settings_read(struct zk_settings *s, const struct conf *c, struct err *e)
{
	const char *file = conf_str(c, "zookeeper.credentials.file");
	*s = (struct zk_settings){.options = {.connect = conf_str(c, "zookeeper.connect"), .session_timeout_ms = (int)conf_int(c, "zookeeper.session.timeout.ms"),
					      .set_acl = conf_bool(c, "zookeeper.set.acl"), .max_in_flight = (int)conf_int(c, "zookeeper.max.in.flight.requests"), .acl = layout_acl}};
	s->connection_timeout_ms = conf_is_set(c, "zookeeper.connection.timeout.ms", true) ? (int)conf_int(c, "zookeeper.connection.timeout.ms") : s->options.session_timeout_ms;
	int rc = *file ? read_credentials(s, file, e) : 0;
	if (rc == 0 && s->options.set_acl && !*file)
		rc = err_set(e, ERR_INVALID, "zookeeper.set.acl=true needs zookeeper.credentials.file: without credentials nobody could change what was made");
	s->options.credentials = *file ? s->credentials : NULL;
	return rc;
}
