#include "cluster/net/settings.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/sysinfo.h>

enum {
	MAX_IN_FLIGHT = 128,
	CONN_QUEUED_BYTES = 8 << 20,
	CONN_UNSENT_BYTES = 1 << 20,
	STARVED_MS = 5000,
};

static bool check_listeners(const char *value, struct err *e)
{
	struct net_address list[NET_MAX_LISTENERS];
	unsigned n;
	return !net_parse_listeners(value, false, list, &n, e);
}

static bool check_advertised(const char *value, struct err *e)
{
	struct net_address list[NET_MAX_LISTENERS];
	unsigned n;
	return !net_parse_listeners(value, true, list, &n, e);
}

static bool check_buffer(const char *value, struct err *e)
{
	if (!strcmp(value, "0")) {
		err_set(e, ERR_INVALID, "-1 is the system's own, anything else is a size in bytes");
		return false;
	}
	return true;
}

const struct conf_property net_properties[] = {
	{.name = "advertised.listeners", .type = CONF_STRING, .scope = CONF_BROKER, .check = check_advertised,
	 .help = "where clients are told to connect: host:port for all listeners, or one for each, separated by commas; not set: where we listen or, of a listener on all interfaces, "
		 "the address by which the client came"},
	{.name = "connections.max.idle.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "600000", .min = -1, .max = INT64_MAX / 1000000, .unit = "ms",
	 .help = "a connection over which nothing goes for so long, and that waits for no answer, is closed; -1: never"},
	{.name = "listeners", .type = CONF_STRING, .scope = CONF_BROKER, .check = check_listeners,
	 .help = "where Kafka clients are served: [PLAINTEXT://]host:port, several separated by commas; an empty host: all interfaces; not set: nowhere"},
	{.name = "max.connections", .type = CONF_INT, .scope = CONF_BROKER, .preset = "2147483647", .min = 0, .max = INT32_MAX,
	 .help = "connections in all; further ones wait, unserved, until one is closed"},
	{.name = "max.connections.per.ip", .type = CONF_INT, .scope = CONF_BROKER, .preset = "2147483647", .min = 0, .max = INT32_MAX,
	 .help = "connections from one address; further ones are closed"},
	{.name = "num.network.threads", .type = CONF_INT, .scope = CONF_BROKER, .preset = "3", .min = 1, .max = 256,
	 .help = "threads that receive requests and send responses, of all listeners together"},
	{.name = "queued.max.request.bytes", .type = CONF_INT, .scope = CONF_BROKER, .preset = "-1", .min = -1, .max = INT64_MAX, .unit = "bytes",
	 .help = "memory of requests that are not answered yet, beyond which no more are read; -1: a quarter of the machine's"},
	{.name = "socket.listen.backlog.size", .type = CONF_INT, .scope = CONF_BROKER, .preset = "50", .min = 1, .max = INT32_MAX,
	 .help = "connections of a listener that the system holds until they are accepted"},
	{.name = "socket.receive.buffer.bytes", .type = CONF_INT, .scope = CONF_BROKER, .preset = "102400", .min = -1, .max = INT32_MAX / 2, .unit = "bytes", .check = check_buffer,
	 .help = "SO_RCVBUF of a connection; -1: the system's"},
	{.name = "socket.request.max.bytes", .type = CONF_INT, .scope = CONF_BROKER, .preset = "104857600", .min = 1, .max = INT32_MAX, .unit = "bytes",
	 .help = "largest request; a connection that announces a larger one is closed"},
	{.name = "socket.send.buffer.bytes", .type = CONF_INT, .scope = CONF_BROKER, .preset = "102400", .min = -1, .max = INT32_MAX / 2, .unit = "bytes", .check = check_buffer,
	 .help = "SO_SNDBUF of a connection; -1: the system's"},
	{0},
};

/* ---- the syntax of listeners ---- */

/* "PLAINTEXT://" goes, any other name in front of "://" is an error. */
static int skip_protocol(const char **at, size_t *len, struct err *e)
{
	static const char *const secure[] = {"SSL", "SASL_PLAINTEXT", "SASL_SSL"};
	const char *text = *at, *mark = memmem(text, *len, "://", 3);
	if (!mark)
		return 0;
	int n = (int)(mark - text);
	for (size_t i = 0; i < sizeof secure / sizeof *secure; i++)
		if (strlen(secure[i]) == (size_t)n && !strncasecmp(text, secure[i], (size_t)n))
			return err_set(e, ERR_INVALID, "%s is not supported: listeners have neither TLS nor SASL; write PLAINTEXT://, and keep them on a network that can be trusted", secure[i]);
	if (n != 9 || strncasecmp(text, "PLAINTEXT", 9))
		return err_set(e, ERR_INVALID, "there is no listener protocol named \"%.*s\": PLAINTEXT is the only one", n > 60 ? 60 : n, text);
	*at = mark + 3;
	*len -= (size_t)n + 3;
	return 0;
}

static bool is_host_char(char c)
{
	return isalnum((unsigned char)c) || strchr("-._%", c);
}

/* [HOST]:PORT */
static int parse_address(const char *text, size_t len, bool advertised, struct net_address *a, struct err *e)
{
	const char *item = text;
	int item_len = len > 300 ? 300 : (int)len;
	int r = skip_protocol(&text, &len, e);
	if (r)
		return r;
	const char *colon = memrchr(text, ':', len);
	if (!colon)
		return err_set(e, ERR_INVALID, "\"%.*s\": host:port is expected", item_len, item);
	const char *host = text, *port = colon + 1;
	size_t host_len = (size_t)(colon - text), port_len = len - host_len - 1;
	bool brackets = host_len >= 2 && host[0] == '[' && host[host_len - 1] == ']';
	if (brackets) {
		host++;
		host_len -= 2;
	}
	if (host_len > NET_MAX_HOST)
		return err_set(e, ERR_INVALID, "\"%.*s...\": a host of more than %d characters", 40, item, NET_MAX_HOST);
	for (size_t i = 0; i < host_len; i++)
		if (!is_host_char(host[i]) && !(brackets && host[i] == ':'))
			return err_set(e, ERR_INVALID, host[i] == ':' ? "\"%.*s\": an IPv6 address stands in brackets, as in [::1]:9092" : "\"%.*s\": this is no host:port",
				       item_len, item);
	if (brackets && !host_len)
		return err_set(e, ERR_INVALID, "\"%.*s\": there is nothing in the brackets", item_len, item);
	int number = 0;
	for (size_t i = 0; i < port_len; i++)
		number = isdigit((unsigned char)port[i]) && number <= 65535 ? number * 10 + port[i] - '0' : 65536;
	if (!port_len || number > 65535)
		return err_set(e, ERR_INVALID, "\"%.*s\": a port is a number from 0 to 65535", item_len, item);
	memset(a, 0, sizeof *a);
	memcpy(a->host, host, host_len);
	a->port = (uint16_t)number;
	if (!advertised)
		return 0;
	if (!host_len || !strcmp(a->host, "0.0.0.0") || !strcmp(a->host, "::"))
		return err_set(e, ERR_INVALID, "\"%.*s\": clients need a host to connect to, which \"all interfaces\" is not", item_len, item);
	if (!number)
		return err_set(e, ERR_INVALID, "\"%.*s\": clients need a port to connect to", item_len, item);
	return 0;
}

int net_parse_listeners(const char *text, bool advertised, struct net_address *list, unsigned *count, struct err *e)
{
	*count = 0;
	while (*text) {
		size_t n = strcspn(text, ",");
		const char *item = text;
		text += n;
		while (n && isspace((unsigned char)*item)) {
			item++;
			n--;
		}
		while (n && isspace((unsigned char)item[n - 1]))
			n--;
		if (!n || (*text && !text[1]))
			return err_set(e, ERR_INVALID, "an item of the list is empty");
		if (*count == NET_MAX_LISTENERS)
			return err_set(e, ERR_INVALID, "more than %d listeners", NET_MAX_LISTENERS);
		int r = parse_address(item, n, advertised, &list[*count], e);
		if (r)
			return r;
		for (unsigned i = 0; !advertised && i < *count; i++)
			if (list[i].port && list[i].port == list[*count].port && !strcasecmp(list[i].host, list[*count].host))
				return err_set(e, ERR_INVALID, "\"%.*s\" stands twice", n > 300 ? 300 : (int)n, item);
		++*count;
		text += *text == ',';
	}
	return 0;
}

const char *net_address_text(const struct net_address *a, char *text)
{
	snprintf(text, NET_MAX_HOST + 10, strchr(a->host, ':') ? "[%s]:%u" : "%s:%u", a->host, a->port);
	return text;
}

/* ---- reading ---- */

static int64_t quarter_of_memory(void)
{
	struct sysinfo info;
	if (sysinfo(&info))
		return INT64_C(1) << 30;
	return (int64_t)((uint64_t)info.totalram * info.mem_unit / 4);
}

int net_settings_read(struct net_settings *s, const struct conf *c, struct err *e)
{
	memset(s, 0, sizeof *s);
	int r = net_parse_listeners(conf_str(c, "listeners"), false, s->listener, &s->listeners, e);
	if (!r)
		r = net_parse_listeners(conf_str(c, "advertised.listeners"), true, s->advertised, &s->advertiseds, e);
	if (r)
		return r;
	if (s->advertiseds > 1 && s->advertiseds != s->listeners)
		return err_set(e, ERR_INVALID, "advertised.listeners has %u addresses, listeners has %u: one is for all of them, else there is one for each, in their order",
			       s->advertiseds, s->listeners);
	s->threads = (unsigned)conf_int(c, "num.network.threads");
	s->request_max_bytes = (int32_t)conf_int(c, "socket.request.max.bytes");
	s->send_buffer_bytes = (int32_t)conf_int(c, "socket.send.buffer.bytes");
	s->receive_buffer_bytes = (int32_t)conf_int(c, "socket.receive.buffer.bytes");
	s->backlog = (int)conf_int(c, "socket.listen.backlog.size");
	s->max_connections = (int32_t)conf_int(c, "max.connections");
	s->max_connections_per_ip = (int32_t)conf_int(c, "max.connections.per.ip");
	s->max_idle_ms = conf_int(c, "connections.max.idle.ms");
	s->queued_max_bytes = conf_int(c, "queued.max.request.bytes");
	if (s->queued_max_bytes > 0 && s->queued_max_bytes < s->request_max_bytes)
		return err_set(e, ERR_INVALID, "queued.max.request.bytes=%lld is less than socket.request.max.bytes=%d: the largest request would never be read",
			       (long long)s->queued_max_bytes, s->request_max_bytes);
	if (s->queued_max_bytes <= 0) {
		int64_t share = quarter_of_memory();
		s->queued_max_bytes = share < s->request_max_bytes ? s->request_max_bytes : share;
	}
	s->max_in_flight = MAX_IN_FLIGHT;
	s->conn_queued_bytes = CONN_QUEUED_BYTES;
	s->conn_unsent_bytes = CONN_UNSENT_BYTES;
	s->starved_ms = STARVED_MS;
	return 0;
}
