/* resources: what properties belong to, in DescribeConfigs, AlterConfigs and IncrementalAlterConfigs. */
#ifndef CLUSTER_API_RESOURCES_H
#define CLUSTER_API_RESOURCES_H

#include "cluster/api/call.h"

enum { RESOURCE_TOPIC = 2, RESOURCE_BROKER = 4, RESOURCE_BROKER_LOGGER = 8 }; /* Kafka's ConfigResource.Type; there are others, which have nothing here */

/* The number that a name is; false: none. */
bool resource_broker(struct call *c, struct wire_string name, int32_t *id);

#endif
