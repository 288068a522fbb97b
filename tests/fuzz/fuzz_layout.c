/*
 * What stands in ZooKeeper, where anybody may have written: "path TAB data".
 *
 * What decodes must encode, and decode to the same again.
 */
#include <stdlib.h>

#include "tests/cluster/layout_any.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *tab = memchr(data, '\t', size);
	struct wr once, twice;
	struct err e = ERR_INIT;
	enum layout_entity type;
	char path[256], name[ZK_PATH_MAX], client[ZK_PATH_MAX];
	size_t n = tab ? (size_t)(tab - data) : 0;
	if (!tab || n >= sizeof path)
		return 0;
	memcpy(path, data, n);
	path[n] = '\0';
	layout_config_entity(path, &type, name, client);
	wr_init(&once, 0);
	wr_init(&twice, 0);
	if (any(path, tab + 1, size - n - 1, &once, &e) == 0) {
		must(any(path, once.data, once.len, &twice, &e) == 0);
		must(once.len == twice.len && !memcmp(once.data, twice.data, once.len));
	}
	wr_release(&once);
	wr_release(&twice);
	return 0;
}
