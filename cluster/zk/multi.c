/* Building a multi, and what it shares with single requests: ACLs, modes, paths. */
#include "cluster/zk/session.h"

#include <stdlib.h>
#include <string.h>

enum { PART_BYTES = 64, FRAME_BYTES = 32 }; /* at most what a part takes besides path and data; what stands around all */

/* ---- shared with single requests ---- */

const struct ACL_vector *acl_of(const struct zk *z, const char *path)
{
	enum { READ = 1, ALL = 31 };
	static char nobody[] = "", auth[] = "auth", world[] = "world", anyone[] = "anyone";
	static struct ACL readable[] = {{ALL, {auth, nobody}}, {READ, {world, anyone}}};
	static const struct ACL_vector both = {2, readable};
	enum zk_acl acl = !z->set_acl ? ZK_ACL_OPEN : z->acl ? z->acl(path) : ZK_ACL_READABLE;
	return acl == ZK_ACL_OPEN ? &ZOO_OPEN_ACL_UNSAFE : acl == ZK_ACL_PRIVATE ? &ZOO_CREATOR_ALL_ACL : &both;
}

int mode_of(unsigned flags)
{
	if (flags & ZK_SEQUENTIAL)
		return flags & ZK_EPHEMERAL ? ZOO_EPHEMERAL_SEQUENTIAL : ZOO_PERSISTENT_SEQUENTIAL;
	return flags & ZK_EPHEMERAL ? ZOO_EPHEMERAL : ZOO_PERSISTENT;
}

/* What ZooKeeper takes for a path: no empty name, no . and .., no control characters. */
bool path_is_valid(const char *path)
{
	if (path[0] != '/' || strlen(path) >= ZK_PATH_MAX)
		return false;
	for (const char *name = path + 1; path[1] && name; ) {
		size_t n = strcspn(name, "/");
		if (!n || (n == 1 && name[0] == '.') || (n == 2 && name[0] == '.' && name[1] == '.'))
			return false;
		for (size_t i = 0; i < n; i++)
			if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
				return false;
		name = name[n] ? name + n + 1 : NULL;
	}
	return true;
}

struct zk_stat stat_of(const struct Stat *s)
{
	return (struct zk_stat){.czxid = s->czxid, .mzxid = s->mzxid, .pzxid = s->pzxid, .ctime_ms = s->ctime, .mtime_ms = s->mtime, .version = s->version,
				.children_version = s->cversion, .children = s->numChildren, .ephemeral_owner = s->ephemeralOwner};
}

/* ---- building ---- */

struct zk_multi *zk_multi_new(void)
{
	return calloc(1, sizeof(struct zk_multi));
}

void zk_multi_free(struct zk_multi *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->parts; i++) {
		free(m->part[i].path);
		free(m->part[i].full);
		free(m->part[i].data);
		if (m->names)
			free(m->names[i]);
	}
	free(m->part);
	free(m->ops);
	free(m->results);
	free(m->stats);
	free(m->names);
	free(m->said);
	free(m);
}

static bool make_room(struct zk_multi *m)
{
	if (m->parts < m->room)
		return true;
	size_t room = m->room ? 2 * m->room : 8;
	struct part *v = realloc(m->part, room * sizeof *v);
	if (!v)
		return false;
	m->part = v;
	m->room = room;
	return true;
}

static void add(struct zk_multi *m, enum request_op op, const char *path, const void *data, size_t bytes, int32_t version, unsigned flags)
{
	if (!m)
		return;
	struct part p = {.op = op, .bytes = bytes, .version = version, .flags = flags, .path = strdup(path), .data = data ? malloc(bytes + 1) : NULL};
	if (!p.path || (data && !p.data) || !make_room(m)) {
		free(p.path);
		free(p.data);
		m->failed = true;
		return;
	}
	if (data)
		memcpy(p.data, data, bytes);
	m->part[m->parts++] = p;
}

void zk_multi_check(struct zk_multi *m, const char *path, int32_t version)
{
	add(m, OP_EXISTS, path, NULL, 0, version, 0);
}

void zk_multi_create(struct zk_multi *m, const char *path, const void *data, size_t bytes, unsigned flags)
{
	add(m, OP_CREATE, path, data, bytes, 0, flags);
}

void zk_multi_set(struct zk_multi *m, const char *path, const void *data, size_t bytes, int32_t version)
{
	add(m, OP_SET, path, data, bytes, version, 0);
}

void zk_multi_delete(struct zk_multi *m, const char *path, int32_t version)
{
	add(m, OP_DELETE, path, NULL, 0, version, 0);
}

size_t zk_multi_parts(const struct zk_multi *m)
{
	return m ? m->parts : 0;
}

size_t zk_multi_bytes(const struct zk *z, const struct zk_multi *m)
{
	size_t n = FRAME_BYTES;
	for (size_t i = 0; m && i < m->parts; i++)
		n += PART_BYTES + z->chroot_length + strlen(m->part[i].path) + m->part[i].bytes;
	return n;
}

/* ---- sending ---- */

static char *full_path(const struct zk *z, const char *path)
{
	size_t n = z->chroot_length, m = strlen(path);
	char *full = malloc(n + m + 1);
	if (full) {
		memcpy(full, z->chroot, n);
		memcpy(full + n, path, m + 1);
	}
	return full;
}

static enum zk_code prepare_part(struct zk *z, struct zk_multi *m, size_t i)
{
	enum { SEQUENCE_DIGITS = 10 };
	struct part *p = &m->part[i];
	if (!path_is_valid(p->path) || z->chroot_length + strlen(p->path) >= ZK_PATH_MAX || !p->path[1])
		return ZK_INVALID;
	size_t name_bytes = z->chroot_length + strlen(p->path) + SEQUENCE_DIGITS + 1;
	if (!(p->full = full_path(z, p->path)) || !(m->names[i] = calloc(1, name_bytes)))
		return ZK_NO_MEMORY;
	switch (p->op) {
	case OP_CREATE:
		zoo_create_op_init(&m->ops[i], p->full, p->data, p->data ? (int)p->bytes : -1, acl_of(z, p->path), mode_of(p->flags), m->names[i], (int)name_bytes);
		break;
	case OP_SET:
		zoo_set_op_init(&m->ops[i], p->full, p->data, p->data ? (int)p->bytes : -1, p->version, &m->stats[i]);
		break;
	case OP_DELETE:
		zoo_delete_op_init(&m->ops[i], p->full, p->version);
		break;
	default:
		zoo_check_op_init(&m->ops[i], p->full, p->version);
	}
	return ZK_OK;
}

enum zk_code multi_prepare(struct zk *z, struct zk_multi *m)
{
	if (!m || m->failed)
		return ZK_NO_MEMORY;
	if (zk_multi_bytes(z, m) > ZK_MAX_REQUEST)
		return ZK_TOO_LARGE;
	m->ops = calloc(m->parts + 1, sizeof *m->ops);
	m->results = calloc(m->parts + 1, sizeof *m->results);
	m->stats = calloc(m->parts + 1, sizeof *m->stats);
	m->names = calloc(m->parts + 1, sizeof *m->names);
	m->said = calloc(m->parts + 1, sizeof *m->said);
	enum zk_code code = m->ops && m->results && m->stats && m->names && m->said ? ZK_OK : ZK_NO_MEMORY;
	for (size_t i = 0; code == ZK_OK && i < m->parts; i++)
		code = prepare_part(z, m, i);
	return code;
}
