/*
 * settings: the properties of the controller.
 *
 * thread: any.
 */
#ifndef CLUSTER_CONTROL_SETTINGS_H
#define CLUSTER_CONTROL_SETTINGS_H

#include "cluster/control/brain.h"
#include "store/conf.h"

extern const struct conf_property control_properties[];

struct control_settings {
	struct brain_options brain; /* what of it is a property */
	int request_timeout_ms;     /* for a broker's answer */
};

void control_settings_read(struct control_settings *s, const struct conf *c);

#endif
