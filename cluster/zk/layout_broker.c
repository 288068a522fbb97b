/* /brokers/ids */
#include "cluster/zk/layout.h"
#include "cluster/zk/layout_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- endpoints: LISTENER://host:port ---- */

static void no_endpoint(struct reading *r)
{
	reading_failed(r, "endpoints", "an array of NAME://host:port");
}

/* text is cut into pieces. */
static void parse_endpoint(struct reading *r, char *text, struct layout_endpoint *p)
{
	char *host = strstr(text, "://"), *colon = strrchr(text, ':');
	int64_t port;
	if (!host || host == text || colon < host + 3 || !text_to_number(colon + 1, -1, 65535, &port)) {
		no_endpoint(r);
		return;
	}
	*host = '\0';
	host += 3;
	*colon = '\0';
	if (*host == '[' && colon > host && colon[-1] == ']') {
		host++;
		colon[-1] = '\0';
	}
	*p = (struct layout_endpoint){.listener = text, .protocol = text, .host = host, .port = (int32_t)port};
}

static void read_endpoints(struct reading *r, struct layout_broker *b)
{
	json_t *a = read_array(r, r->root, "endpoints"), *map = json_object_get(r->root, "listener_security_protocol_map"), *v;
	size_t i, n = json_array_size(a), bytes = 0;
	json_array_foreach(a, i, v)
		bytes += json_string_length(v) + 1;
	b->endpoint = calloc(n + 1, sizeof *b->endpoint);
	b->text = malloc(bytes + 1);
	if (r->rc == 0 && (!b->endpoint || !b->text))
		r->rc = err_set(r->e, ERR_NO_MEMORY, "no memory for %s", r->path);
	char *at = b->text;
	for (i = 0; r->rc == 0 && i < n; i++) {
		const char *text = json_string_value(json_array_get(a, i));
		if (!text) {
			no_endpoint(r);
			break;
		}
		strcpy(at, text);
		parse_endpoint(r, at, &b->endpoint[i]);
		at += strlen(text) + 1;
		b->endpoints++;
	}
	for (i = 0; r->rc == 0 && map && i < b->endpoints; i++)
		b->endpoint[i].protocol = read_text(r, map, b->endpoint[i].listener);
}

/* Before there were endpoints: version 1. */
static void read_one_endpoint(struct reading *r, struct layout_broker *b)
{
	b->endpoint = calloc(1, sizeof *b->endpoint);
	if (r->rc < 0)
		return;
	if (!b->endpoint) {
		r->rc = err_set(r->e, ERR_NO_MEMORY, "no memory for %s", r->path);
		return;
	}
	*b->endpoint = (struct layout_endpoint){.listener = "PLAINTEXT", .protocol = "PLAINTEXT", .host = b->host ? b->host : "", .port = b->port};
	b->endpoints = 1;
}

/* ---- the node ---- */

static void read_ours(struct reading *r, struct layout_broker *b)
{
	if (r->rc < 0 || !json_object_get(r->root, "spoolfs"))
		return;
	json_t *o = read_object(r, r->root, "spoolfs");
	b->ours = true;
	b->clean = read_bool(r, o, "clean");
	b->boot_id = read_text(r, o, "boot_id");
	b->data_id = read_text(r, o, "data_id");
	b->session_timeout_ms = (int32_t)read_number(r, o, "session_timeout_ms", 0, INT32_MAX);
}

int layout_broker_decode(struct layout_broker *b, const char *path, const void *data, size_t bytes, struct err *e)
{
	struct reading r;
	int64_t version;
	*b = (struct layout_broker){.boot_id = "", .data_id = ""};
	reading_begin(&r, path, data, bytes, 1, 5, &version, e);
	b->host = read_text_or_null(&r, r.root, "host");
	b->port = (int32_t)read_number(&r, r.root, "port", -1, 65535);
	b->jmx_port = (int32_t)read_number_or(&r, r.root, "jmx_port", -1, 65535, -1);
	b->timestamp_ms = r.rc == 0 && json_object_get(r.root, "timestamp") ? read_quoted(&r, r.root, "timestamp", INT64_MIN, INT64_MAX) : -1;
	b->rack = read_text_or_null(&r, r.root, "rack");
	if (version >= 2)
		read_endpoints(&r, b);
	else
		read_one_endpoint(&r, b);
	read_ours(&r, b);
	b->kept = r.root;
	if (r.rc < 0)
		layout_broker_release(b);
	return r.rc;
}

static json_t *endpoint_text(const struct layout_endpoint *p)
{
	bool brackets = strchr(p->host, ':') != NULL;
	return json_sprintf("%s://%s%s%s:%d", p->listener, brackets ? "[" : "", p->host, brackets ? "]" : "", p->port);
}

static void put_endpoints(json_t *o, bool *failed, const struct layout_broker *b)
{
	json_t *map = json_object(), *list = json_array();
	for (size_t i = 0; i < b->endpoints; i++) {
		put(map, failed, b->endpoint[i].listener, json_string(b->endpoint[i].protocol));
		*failed |= json_array_append_new(list, endpoint_text(&b->endpoint[i])) < 0;
	}
	put(o, failed, "listener_security_protocol_map", map);
	put(o, failed, "endpoints", list);
}

int layout_broker_encode(const struct layout_broker *b, struct wr *out)
{
	static const char *const known[] = {"features", "listener_security_protocol_map", "endpoints", "rack", "jmx_port", "port", "host", "version", "timestamp", "spoolfs", NULL};
	json_t *o = json_object(), *features = b->kept ? json_object_get(b->kept, "features") : NULL;
	bool failed = false;
	put(o, &failed, "features", features ? json_incref(features) : json_object());
	put_endpoints(o, &failed, b);
	if (b->rack)
		put(o, &failed, "rack", json_string(b->rack));
	put(o, &failed, "jmx_port", json_integer(b->jmx_port));
	put(o, &failed, "port", json_integer(b->port));
	put(o, &failed, "host", b->host ? json_string(b->host) : json_null());
	put(o, &failed, "version", json_integer(5));
	put(o, &failed, "timestamp", quoted(b->timestamp_ms));
	if (b->ours)
		put(o, &failed, "spoolfs", json_pack("{s:b, s:s, s:s, s:i}", "clean", b->clean, "boot_id", b->boot_id, "data_id", b->data_id, "session_timeout_ms", b->session_timeout_ms));
	put_kept(o, &failed, b->kept, known);
	return put_out(o, failed, out);
}

void layout_broker_release(struct layout_broker *b)
{
	free(b->endpoint);
	free(b->text);
	json_decref(b->kept);
	*b = (struct layout_broker){0};
}
