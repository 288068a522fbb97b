/* /config and /consumers: entities with names that people choose. */
#include "cluster/zk/layout.h"
#include "cluster/zk/layout_json.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct { const char *directory; bool escaped; } entities[] = {
	[LAYOUT_TOPIC] = {"topics", false}, [LAYOUT_BROKER] = {"brokers", false}, [LAYOUT_CLIENT] = {"clients", true}, [LAYOUT_USER] = {"users", true}, [LAYOUT_USER_CLIENT] = {"users", true},
	[LAYOUT_IP] = {"ips", false},
};

/* ---- names ---- */

/* Kafka's: what is not a letter, a digit or one of . - _ is %XX, byte by byte. false: no room. */
static bool escape(const char *name, char *to, size_t room)
{
	for (; *name && room > 3; name++) {
		unsigned char c = (unsigned char)*name;
		int n = isascii(c) && (isalnum(c) || strchr(".-_", c)) ? snprintf(to, room, "%c", c) : snprintf(to, room, "%%%02X", c);
		to += n;
		room -= (size_t)n;
	}
	*to = '\0';
	return !*name;
}

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool unescape(const char *from, size_t n, char *name)
{
	for (size_t i = 0; i < n; i++) {
		if (from[i] != '%') {
			*name++ = from[i];
			continue;
		}
		if (i + 2 >= n || hex(from[i + 1]) < 0 || hex(from[i + 2]) < 0 || !(hex(from[i + 1]) + hex(from[i + 2])))
			return false;
		*name++ = (char)(hex(from[i + 1]) * 16 + hex(from[i + 2]));
		i += 2;
	}
	*name = '\0';
	return true;
}

/* Whether it can be one name in a path. */
static bool is_name(const char *s)
{
	if (!*s || !strcmp(s, ".") || !strcmp(s, ".."))
		return false;
	for (const char *c = s; *c; c++)
		if (*c == '/' || (unsigned char)*c < 0x20 || *c == 0x7f)
			return false;
	return true;
}

static int no_name(const char *what, const char *name, struct err *e)
{
	return err_set(e, ERR_NAME, "the %s \"%.100s\" cannot stand in ZooKeeper: it is empty, too long, or has characters that no path may have", what, name);
}

static int config_name(bool escaped, const char *name, char to[ZK_PATH_MAX], struct err *e)
{
	bool good = strcmp(name, LAYOUT_DEFAULT) && escaped ? escape(name, to, ZK_PATH_MAX) : (size_t)snprintf(to, ZK_PATH_MAX, "%s", name) < ZK_PATH_MAX;
	return good && is_name(to) ? 0 : no_name("name", name, e);
}

/* ---- where a configuration is ---- */

int layout_config_path(struct layout_path *p, enum layout_entity type, const char *name, const char *client, struct err *e)
{
	char a[ZK_PATH_MAX], b[ZK_PATH_MAX] = "";
	int rc = config_name(entities[type].escaped, name, a, e);
	if (rc == 0 && type == LAYOUT_USER_CLIENT)
		rc = config_name(true, client, b, e);
	if (rc == 0 && snprintf(p->text, sizeof p->text, LAYOUT_CONFIG "/%s/%s%s%s", entities[type].directory, a, *b ? "/clients/" : "", b) >= (int)sizeof p->text)
		rc = no_name("name", name, e);
	return rc;
}

static bool name_of(bool escaped, const char *from, size_t n, char *name)
{
	if (!n || n >= ZK_PATH_MAX)
		return false;
	if (escaped && !(n == strlen(LAYOUT_DEFAULT) && !memcmp(from, LAYOUT_DEFAULT, n)))
		return unescape(from, n, name);
	memcpy(name, from, n);
	name[n] = '\0';
	return true;
}

bool layout_config_entity(const char *entity_path, enum layout_entity *type, char name[ZK_PATH_MAX], char client[ZK_PATH_MAX])
{
	const char *slash = strchr(entity_path, '/');
	size_t n = slash ? (size_t)(slash - entity_path) : 0;
	*client = '\0';
	for (size_t i = 0; slash && i < sizeof entities / sizeof *entities; i++) {
		if (i == LAYOUT_USER_CLIENT || strlen(entities[i].directory) != n || memcmp(entities[i].directory, entity_path, n))
			continue;
		const char *at = slash + 1, *end = strchrnul(at, '/');
		*type = (enum layout_entity)i;
		if (!name_of(entities[i].escaped, at, (size_t)(end - at), name))
			return false;
		if (!*end)
			return true;
		*type = LAYOUT_USER_CLIENT;
		at = end + strlen("/clients/");
		return i == LAYOUT_USER && !strncmp(end, "/clients/", strlen("/clients/")) && !strchr(at, '/') && name_of(true, at, strlen(at), client);
	}
	return false;
}

/* ---- a configuration ---- */

int layout_config_decode(struct layout_config *c, const char *path, const void *data, size_t bytes, struct err *e)
{
	struct reading r;
	int64_t version;
	json_t *v;
	const char *name;
	*c = (struct layout_config){0};
	if (!bytes) /* a node that was only made */
		return 0;
	reading_begin(&r, path, data, bytes, 1, 1, &version, e);
	json_t *o = read_object(&r, r.root, "config");
	c->property = r.rc == 0 ? calloc(json_object_size(o) + 1, sizeof *c->property) : NULL;
	if (r.rc == 0 && !c->property)
		r.rc = err_set(e, ERR_NO_MEMORY, "no memory for %s", path);
	if (r.rc == 0)
		json_object_foreach(o, name, v)
			c->property[c->properties++] = (struct layout_property){name, read_text(&r, o, name)};
	c->kept = r.root;
	if (r.rc < 0)
		layout_config_release(c);
	return r.rc;
}

int layout_config_encode(const struct layout_config *c, struct wr *out)
{
	static const char *const known[] = {"version", "config", NULL};
	json_t *o = json_object(), *map = json_object();
	bool failed = false;
	for (size_t i = 0; i < c->properties; i++)
		put(map, &failed, c->property[i].name, json_string(c->property[i].value));
	put(o, &failed, "version", json_integer(1));
	put(o, &failed, "config", map);
	put_kept(o, &failed, c->kept, known);
	return put_out(o, failed, out);
}

void layout_config_release(struct layout_config *c)
{
	free(c->property);
	json_decref(c->kept);
	*c = (struct layout_config){0};
}

/* Version 1 is what Kafka wrote before there were entities of two names, and still reads. */
int layout_config_change_decode(struct layout_path *entity, const char *path, const void *data, size_t bytes, struct err *e)
{
	struct reading r;
	int64_t version;
	reading_begin(&r, path, data, bytes, 1, 2, &version, e);
	const char *of = version == 2 ? read_text(&r, r.root, "entity_path") : read_text(&r, r.root, "entity_type");
	const char *name = version == 2 ? "" : read_text(&r, r.root, "entity_name");
	int n = snprintf(entity->text, sizeof entity->text, "%s%s%s", of, version == 2 ? "" : "/", name);
	if (n < 3 || n >= (int)sizeof entity->text)
		reading_failed(&r, version == 2 ? "entity_path" : "entity_name", "type and name of what has changed");
	json_decref(r.root);
	return r.rc;
}

int layout_config_change_encode(const char *entity_path, struct wr *out)
{
	json_t *o = json_object();
	bool failed = false;
	size_t n = strlen(LAYOUT_CONFIG "/");
	put(o, &failed, "version", json_integer(2));
	put(o, &failed, "entity_path", json_string(strncmp(entity_path, LAYOUT_CONFIG "/", n) ? entity_path : entity_path + n));
	return put_out(o, failed, out);
}

/* ---- consumers ---- */

static int consumer_path(struct layout_path *p, const char *group, const char *what, const char *name, int32_t partition, struct err *e)
{
	char number[16] = "";
	if (partition >= 0)
		snprintf(number, sizeof number, "/%d", partition);
	if (!is_name(group))
		return no_name("group", group, e);
	if (name && !is_name(name))
		return no_name("name", name, e);
	if (snprintf(p->text, sizeof p->text, LAYOUT_CONSUMERS "/%s/%s%s%s%s", group, what, name ? "/" : "", name ? name : "", number) >= (int)sizeof p->text)
		return no_name("group", group, e);
	return 0;
}

int layout_consumer_path(struct layout_path *p, const char *group, const char *member, struct err *e)
{
	return consumer_path(p, group, "ids", member, -1, e);
}

int layout_consumer_owner_path(struct layout_path *p, const char *group, const char *topic, int32_t partition, struct err *e)
{
	return consumer_path(p, group, "owners", topic, topic ? partition : -1, e);
}

int layout_consumer_offset_path(struct layout_path *p, const char *group, const char *topic, int32_t partition, struct err *e)
{
	return consumer_path(p, group, "offsets", topic, topic ? partition : -1, e);
}

int layout_consumer_encode(const struct layout_consumer *c, struct wr *out)
{
	json_t *o = json_object(), *map = json_object();
	bool failed = false;
	for (size_t i = 0; i < c->topics; i++)
		put(map, &failed, c->topic[i], json_integer(c->streams[i]));
	put(o, &failed, "version", json_integer(1));
	put(o, &failed, "subscription", map);
	put(o, &failed, "pattern", json_string("static"));
	put(o, &failed, "timestamp", quoted(c->timestamp_ms));
	return put_out(o, failed, out);
}
