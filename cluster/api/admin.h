/*
 * admin: what the handlers that make, change and describe topics share: sentences in the call's memory, which of a list stands twice, Kafka's words for what is wrong with a
 * name or a property. Clients print those words, and scripts look for them: so they are Kafka's.
 */
#ifndef CLUSTER_API_ADMIN_H
#define CLUSTER_API_ADMIN_H

#include "cluster/api/call.h"
#include "store/conf.h"

/* A sentence in the call's memory; null where there is none. */
struct wire_string call_say(struct call *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* By key, each a string of n > 0, "" or null: 0 where no other has it, 1 for the first of several, 2 for those after it. NULL: no memory. */
struct admin_key { struct wire_string name; int64_t number; };
uint8_t *admin_twice(struct call *c, const struct admin_key *key, int32_t n);

/* false, with Kafka's sentence: no topic can have this name. */
bool admin_check_name(struct call *c, struct wire_string name, struct wire_string *why);

/* Nothing that a string of C could not hold. */
static inline bool admin_is_text(struct wire_string s) { return s.n <= 0 || !memchr(s.s, 0, (size_t)s.n); }

/* false, with Kafka's sentence: a value that the property cannot have. row may be NULL: there is no such property. */
bool admin_check_value(struct call *c, const struct conf_property *row, const char *name, const char *value, struct wire_string *why);

enum { CONFIG_UNKNOWN = 0, CONFIG_BOOLEAN = 1, CONFIG_STRING = 2, CONFIG_INT = 3, CONFIG_LONG = 5, CONFIG_DOUBLE = 6, CONFIG_LIST = 7 }; /* Kafka's DescribeConfigsResponse.ConfigType */
int8_t admin_config_type(const struct conf_property *row);

/* Where a value comes from: Kafka's ConfigSource. */
enum { SOURCE_TOPIC = 1, SOURCE_BROKER = 2, SOURCE_ALL_BROKERS = 3, SOURCE_STATIC = 4, SOURCE_DEFAULT = 5 };

/* The properties in force of a topic that sets these, in name order, as CreateTopics tells them. false: no memory. */
struct create_topics_response_topic;
bool admin_created_configs(struct call *c, const struct conf_change *set, size_t n, struct create_topics_response_topic *a);

#endif
