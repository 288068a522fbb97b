/* Any node of Kafka's layout, by its path: decoded, and encoded again. For layout_echo and the fuzzer. */
#include <string.h>

#include "cluster/zk/layout.h"
#include "store/buf.h"

#define TRY(type, name) \
	struct type x; \
	int rc = name##_decode(&x, path, data, bytes, e); \
	if (rc < 0) \
		return rc; \
	rc = name##_encode(&x, out); \
	name##_release(&x); \
	return rc

static int any_broker(const char *path, const void *data, size_t bytes, struct wr *out, struct err *e)
{
	TRY(layout_broker, layout_broker);
}

static int any_topic(const char *path, const void *data, size_t bytes, struct wr *out, struct err *e)
{
	TRY(layout_topic, layout_topic);
}

static int any_state(const char *path, const void *data, size_t bytes, struct wr *out, struct err *e)
{
	TRY(layout_state, layout_state);
}

static int any_config(const char *path, const void *data, size_t bytes, struct wr *out, struct err *e)
{
	TRY(layout_config, layout_config);
}

typedef int (*list_decode_fn)(struct layout_list *l, const char *path, const void *data, size_t bytes, struct err *e);
typedef int (*list_encode_fn)(const struct layout_list *l, struct wr *out);

static int any_list(list_decode_fn decode, list_encode_fn encode, const char *path, const void *data, size_t bytes, struct wr *out, struct err *e)
{
	struct layout_list l;
	int rc = decode(&l, path, data, bytes, e);
	if (rc < 0)
		return rc;
	rc = encode(&l, out);
	layout_list_release(&l);
	return rc;
}

static int any_of_the_cluster(const char *path, const void *data, size_t bytes, struct wr *out, struct err *e)
{
	struct layout_controller c;
	struct layout_producer_ids p;
	struct layout_path entity;
	int32_t number;
	int64_t offset;
	char id[64];
	int rc;
	if (!strcmp(path, LAYOUT_CONTROLLER))
		return (rc = layout_controller_decode(&c, path, data, bytes, e)) < 0 ? rc : layout_controller_encode(&c, out);
	if (!strcmp(path, LAYOUT_CONTROLLER_EPOCH))
		return (rc = layout_epoch_decode(&number, path, data, bytes, e)) < 0 ? rc : layout_epoch_encode(number, out);
	if (!strcmp(path, LAYOUT_CLUSTER_ID))
		return (rc = layout_cluster_id_decode(id, path, data, bytes, e)) < 0 ? rc : layout_cluster_id_encode(id, out);
	if (!strcmp(path, LAYOUT_PRODUCER_IDS))
		return (rc = layout_producer_ids_decode(&p, path, data, bytes, e)) < 0 ? rc : layout_producer_ids_encode(&p, out);
	if (layout_number(path, LAYOUT_LOG_DIR_EVENT, &number))
		return (rc = layout_log_dir_event_decode(&number, path, data, bytes, e)) < 0 ? rc : layout_log_dir_event_encode(number, out);
	if (layout_number(path, LAYOUT_CONFIG_CHANGE, &number))
		return (rc = layout_config_change_decode(&entity, path, data, bytes, e)) < 0 ? rc : layout_config_change_encode(entity.text, out);
	if (!strncmp(path, LAYOUT_CONSUMERS "/", strlen(LAYOUT_CONSUMERS "/")))
		return (rc = layout_offset_decode(&offset, path, data, bytes, e)) < 0 ? rc : layout_offset_encode(offset, out);
	return err_set(e, ERR_NOT_FOUND, "%s: no node of the layout", path);
}

static int any(const char *path, const void *data, size_t bytes, struct wr *out, struct err *e)
{
	int32_t number;
	if (!strncmp(path, LAYOUT_BROKER_IDS "/", strlen(LAYOUT_BROKER_IDS "/")))
		return any_broker(path, data, bytes, out, e);
	if (!strncmp(path, LAYOUT_TOPICS "/", strlen(LAYOUT_TOPICS "/")))
		return strcmp(layout_name(path), "state") ? any_topic(path, data, bytes, out, e) : any_state(path, data, bytes, out, e);
	if (!strncmp(path, LAYOUT_CONFIG "/", strlen(LAYOUT_CONFIG "/")) && strncmp(path, LAYOUT_CONFIG_CHANGES, strlen(LAYOUT_CONFIG_CHANGES)))
		return any_config(path, data, bytes, out, e);
	if (!strcmp(path, LAYOUT_REASSIGN))
		return any_list(layout_reassign_decode, layout_reassign_encode, path, data, bytes, out, e);
	if (!strcmp(path, LAYOUT_PREFERRED_ELECTION))
		return any_list(layout_preferred_decode, layout_preferred_encode, path, data, bytes, out, e);
	if (layout_number(path, LAYOUT_ISR_CHANGE, &number))
		return any_list(layout_isr_change_decode, layout_isr_change_encode, path, data, bytes, out, e);
	return any_of_the_cluster(path, data, bytes, out, e);
}
