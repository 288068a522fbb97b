/*
 * properties: the properties of the mount: what `spoolfs mount -o` and a topic's .config may set beyond what store and cluster have.
 */
#ifndef FS_PROPERTIES_H
#define FS_PROPERTIES_H

#include "store/conf.h"

extern const struct conf_property fs_properties[];

#endif
