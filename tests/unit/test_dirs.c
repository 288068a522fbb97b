#include "tests/unit/log_fixture.h"

#include <sys/wait.h>

#include "store/dirs.h"

static char dir[64];

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/spoolfs-dirs-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	io_set_hook(NULL, NULL);
	fx_remove_tree(dir);
	return 0;
}

static const char *in(const char *name)
{
	static char path[200];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	return path;
}

static void put(const char *name, const char *text)
{
	spit(in(name), text, strlen(text));
}

/* ---- names ---- */

static void expect(const char *name, enum dir_entry_kind kind, const char *topic, int32_t partition)
{
	struct dir_entry d;
	memset(&d, 0x55, sizeof d);
	dir_entry_parse(name, &d);
	if (d.kind != kind)
		fail_msg("%s is of kind %d, not %d", name, d.kind, kind);
	if (kind == DIR_PARTITION) {
		assert_string_equal(d.topic, topic);
		assert_int_equal(d.partition, partition);
	}
}

static void test_names(void **state)
{
	(void)state;
	char longest[300];
	memset(longest, 'n', sizeof longest);
	strcpy(longest + TOPIC_NAME_MAX, "-12");
	expect("t-0", DIR_PARTITION, "t", 0);
	expect("a-b-1-22", DIR_PARTITION, "a-b-1", 22);
	expect("__consumer_offsets-49", DIR_PARTITION, "__consumer_offsets", 49);
	expect("x.delete-7", DIR_PARTITION, "x.delete", 7);
	expect("t-2147483647", DIR_PARTITION, "t", INT32_MAX);
	expect("--0", DIR_PARTITION, "-", 0);
	expect("t--1", DIR_PARTITION, "t-", 1);
	struct dir_entry d;
	dir_entry_parse(longest, &d);
	assert_int_equal(d.kind, DIR_PARTITION);
	assert_int_equal(strlen(d.topic), TOPIC_NAME_MAX);
	memmove(longest + 1, longest, TOPIC_NAME_MAX + 4);
	expect(longest, DIR_OTHER, NULL, 0);
	static const char *const others[] = {"", "t", "-0", "t-", "t-x", "t-00", "t-01", "t-+1", "t- 1", "t-2147483648", "t-99999999999999999999", "a b-0", "t/x-0", ".-0",
					     "..-0", "lost+found", "t-0-stray", "t-0.0123456789abcdef0123456789abcdef-future", "t-0.0123456789abcdef0123456789abcdef-stray"};
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		expect(others[i], DIR_OTHER, NULL, 0);
}

/* What has the name of a deleted partition is removed: nothing else may have it. */
static void test_deleted_names(void **state)
{
	(void)state;
	expect("t-0.0123456789abcdef0123456789abcdef-delete", DIR_DELETED, NULL, 0);
	expect("a.b-c-123.ffffffffffffffffffffffffffffffff-delete", DIR_DELETED, NULL, 0);
	expect("-5.0123456789abcdef0123456789abcdef-delete", DIR_DELETED, NULL, 0); /* a name that was cut to nothing */
	static const char *const others[] = {"do-not-delete", "-delete", "delete", "t-0-delete", "t-0.-delete", "t-0.0123456789abcdef0123456789abcde-delete",
					     "t-0.0123456789abcdef0123456789abcdefg-delete", "t-x.0123456789abcdef0123456789abcdef-delete",
					     "t-.0123456789abcdef0123456789abcdef-delete", "0.0123456789abcdef0123456789abcdef-delete",
					     "t-0.0123456789ABCDEF0123456789abcdef-delete", "t-0.0123456789abcdef0123456789abcdef-deleted",
					     "t-0x0123456789abcdef0123456789abcdef-delete", "t0.0123456789abcdef0123456789abcdef-delete",
					     "0123456789abcdef0123456789abcdef-delete", ".0123456789abcdef0123456789abcdef-delete"};
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		expect(others[i], DIR_OTHER, NULL, 0);
}

static void test_topic_names(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	char name[300];
	assert_int_equal(topic_name_check("a", &e), 0);
	assert_int_equal(topic_name_check("A.b_c-9", &e), 0);
	assert_int_equal(topic_name_check("...", &e), 0);
	memset(name, 'a', sizeof name);
	name[TOPIC_NAME_MAX] = 0;
	assert_int_equal(topic_name_check(name, &e), 0);
	name[TOPIC_NAME_MAX] = 'a';
	name[TOPIC_NAME_MAX + 1] = 0;
	assert_int_equal(topic_name_check(name, &e), ERR_TOO_LARGE);
	static const char *const bad[] = {"", ".", "..", "a b", "a/b", "\xc3\xa4", "a\n", "a:b", "a,b", "a\\"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		e = (struct err)ERR_INIT;
		assert_int_equal(topic_name_check(bad[i], &e), ERR_NAME);
		assert_true(strlen(e.text) > 10);
	}
	assert_int_equal(topic_name_check("a b", NULL), ERR_NAME);
}

static void test_uuids(void **state)
{
	(void)state;
	char seen[2000][TOPIC_ID_CHARS + 1];
	for (int i = 0; i < 2000; i++) {
		uuid_text_new(seen[i]);
		assert_int_equal(strlen(seen[i]), TOPIC_ID_CHARS);
		assert_int_equal(strspn(seen[i], "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), TOPIC_ID_CHARS);
		assert_true(seen[i][0] != '-');
		/* 16 bytes are 128 bits, 22 characters 132: the last has four zeros */
		assert_non_null(strchr("AQgw", seen[i][TOPIC_ID_CHARS - 1]));
		for (int k = 0; k < i; k += 97)
			assert_string_not_equal(seen[i], seen[k]);
		uint8_t bytes[16];
		char text[TOPIC_ID_CHARS + 1];
		uuid_bytes(seen[i], bytes);
		uuid_text(bytes, text);
		assert_string_equal(text, seen[i]);
	}
}

/* ---- meta.properties ---- */

static void test_meta(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	struct dir_meta m, back;
	assert_int_equal(dir_meta_load(dir, &m, &e), ERR_NOT_FOUND);
	m = (struct dir_meta){.version = 0, .broker_id = 17};
	uuid_text_new(m.cluster_id);
	assert_int_equal(dir_meta_write(dir, &m, &e), 0);
	assert_int_equal(dir_meta_load(dir, &back, &e), 0);
	assert_int_equal(back.version, 0);
	assert_int_equal(back.broker_id, 17);
	assert_string_equal(back.cluster_id, m.cluster_id);
	/* Kafka's, of either version, with what a Java properties file may have */
	put("meta.properties", "#\n#Sat Nov 21 12:00:00 UTC 2026\nnode.id=1\ndirectory.id=abc\nversion=1\ncluster.id=ab\\=c\\:d\n");
	assert_int_equal(dir_meta_load(dir, &m, &e), 0);
	assert_int_equal(m.version, 1);
	assert_int_equal(m.broker_id, 1);
	assert_string_equal(m.cluster_id, "ab=c:d");
	put("meta.properties", "  version : 0\r\nbroker.id 5\r\n! remark\r\ncluster.id = x\r\n");
	assert_int_equal(dir_meta_load(dir, &m, &e), 0);
	assert_int_equal(m.version, 0);
	assert_int_equal(m.broker_id, 5);
	assert_string_equal(m.cluster_id, "x");
	put("meta.properties", "version=0\n");
	assert_int_equal(dir_meta_load(dir, &m, &e), 0);
	assert_int_equal(m.broker_id, -1);
}

static void test_damaged_meta(void **state)
{
	(void)state;
	static const char *const bad[] = {"", "garbage", "version\n", "version=\n", "version=x\n", "version=-1\n", "version=1x\n", "#version=1\n", "Version=1\n", "broker.id=1\n",
					  "version=99999999999999999999\n"};
	struct dir_meta m;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct err e = ERR_INIT;
		put("meta.properties", bad[i]);
		if (dir_meta_load(dir, &m, &e) != ERR_CORRUPT)
			fail_msg("\"%s\" was taken", bad[i]);
		assert_non_null(strstr(e.text, "meta.properties"));
	}
	struct err e = ERR_INIT;
	put("meta.properties", "version=2\n");
	assert_int_equal(dir_meta_load(dir, &m, &e), ERR_VERSION);
}

static void test_partition_metadata(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	char id[TOPIC_ID_CHARS + 1], back[TOPIC_ID_CHARS + 1];
	size_t n;
	assert_int_equal(partition_metadata_load(dir, back, &e), ERR_NOT_FOUND);
	uuid_text_new(id);
	assert_int_equal(partition_metadata_write(dir, id, &e), 0);
	assert_int_equal(partition_metadata_load(dir, back, &e), 0);
	assert_string_equal(id, back);
	char *text = slurp(in("partition.metadata"), &n);
	assert_int_equal(n, strlen("version: 0\ntopic_id: ") + TOPIC_ID_CHARS); /* no newline behind it, as Kafka writes it */
	for (size_t cut = 0; cut < n; cut++) {
		spit(in("partition.metadata"), text, cut);
		assert_int_equal(partition_metadata_load(dir, back, &e), ERR_CORRUPT);
	}
	free(text);
	static const char *const bad[] = {"garbage", "version: x\ntopic_id: evDNwL6eSeaAHm_UbSuwyw", "version: 0\ntopic_id: evDNwL6eSeaAHm_UbSuwyw2",
					  "version: 0\ntopic_id: evDNwL6eSeaAHm/UbSuwyw", "version: 0\ntopic: evDNwL6eSeaAHm_UbSuwyw"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		put("partition.metadata", bad[i]);
		if (partition_metadata_load(dir, back, &e) != ERR_CORRUPT)
			fail_msg("\"%s\" was taken", bad[i]);
	}
}

/* ---- the lock ---- */

/* In another process, as the lock is the process's: the result as an exit status. */
static int elsewhere(int (*fn)(void))
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(fn());
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static pid_t parent;

static int try_take(void)
{
	struct dir_lock l;
	struct dir_holder *h = calloc(1, sizeof *h);
	struct err e = ERR_INIT;
	int rc = dir_lock_take(&l, dir, "/there", h, &e);
	if (rc == 0)
		return 1;
	if (rc != ERR_BUSY || h->pid != parent || l.fd != -1 || !strstr(e.text, "in use by process"))
		return 9;
	return h->stopping ? 3 : strcmp(h->label, "/mnt/x y") ? 8 : 2;
}

static int look(void)
{
	struct dir_holder *h = calloc(1, sizeof *h);
	struct err e = ERR_INIT;
	int rc = dir_lock_holder(dir, h, &e);
	if (rc != 1)
		return rc == 0 ? 0 : 9;
	return h->pid != parent ? 8 : h->stopping ? 3 : 2;
}

static void test_lock(void **state)
{
	(void)state;
	struct dir_lock l;
	struct dir_holder *h = calloc(1, sizeof *h);
	struct err e = ERR_INIT;
	parent = getpid();
	assert_int_equal(elsewhere(look), 0); /* no file yet */
	assert_int_equal(dir_lock_take(&l, dir, "/mnt/x y", h, &e), 0);
	assert_int_equal(elsewhere(try_take), 2);
	assert_int_equal(elsewhere(look), 2);
	dir_lock_stopping(&l, "/mnt/x y");
	assert_int_equal(elsewhere(try_take), 3);
	assert_int_equal(elsewhere(look), 3);
	dir_lock_release(&l);
	assert_int_equal(elsewhere(look), 0);
	assert_int_equal(elsewhere(try_take), 1);
	/* what the lock file says does not matter, the lock does */
	put(".lock", "1\nserving\n/elsewhere\n");
	assert_int_equal(elsewhere(look), 0);
	assert_int_equal(dir_lock_take(&l, dir, NULL, h, &e), 0);
	assert_int_equal(elsewhere(look), 2);
	dir_lock_release(&l);
	free(h);
}

static int hold(void)
{
	static struct dir_lock l;
	struct dir_holder *h = calloc(1, sizeof *h);
	if (dir_lock_take(&l, dir, "", h, NULL) != 0)
		return 1;
	put("held", "");
	pause();
	return 2;
}

/* The lock ends with the process, however it ends. */
static void test_killed_holder(void **state)
{
	(void)state;
	struct dir_lock l;
	struct dir_holder *h = calloc(1, sizeof *h);
	struct err e = ERR_INIT;
	pid_t pid = fork();
	if (pid == 0)
		_exit(hold());
	while (access(in("held"), F_OK))
		usleep(1000);
	assert_int_equal(dir_lock_take(&l, dir, "", h, &e), ERR_BUSY);
	assert_int_equal(h->pid, pid);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(dir_lock_take(&l, dir, "", h, &e), 0);
	dir_lock_release(&l);
	free(h);
}

static ssize_t full(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)arg;
	(void)name;
	(void)fd;
	(void)bytes;
	return call == IO_WRITE || call == IO_TRUNCATE ? -ENOSPC : 0;
}

/* A full disk is no reason not to hold the lock. */
static void test_lock_on_a_full_disk(void **state)
{
	(void)state;
	struct dir_lock l;
	struct dir_holder *h = calloc(1, sizeof *h);
	struct err e = ERR_INIT;
	parent = getpid();
	io_set_hook(full, NULL);
	assert_int_equal(dir_lock_take(&l, dir, "/mnt/x y", h, &e), 0);
	assert_int_equal(elsewhere(look), 2);
	dir_lock_stopping(&l, "");
	dir_lock_release(&l);
	io_set_hook(NULL, NULL);
	assert_int_equal(elsewhere(look), 0);
	free(h);
}

static int try_share(void)
{
	struct dir_lock l;
	struct dir_holder *h = calloc(1, sizeof *h);
	struct err e = ERR_INIT;
	int rc = dir_lock_share(&l, dir, h, &e);
	return rc == 0 ? 1 : rc == ERR_BUSY && h->pid == parent && l.fd == -1 && strstr(e.text, "in use by process") ? 2 : 9;
}

/* Readers exclude writers, not each other. */
static void test_shared_lock(void **state)
{
	(void)state;
	struct dir_lock l;
	struct dir_holder *h = calloc(1, sizeof *h);
	struct err e = ERR_INIT;
	parent = getpid();
	assert_int_equal(dir_lock_share(&l, dir, h, &e), 0); /* no file: nobody can write */
	dir_lock_release(&l);
	assert_int_equal(dir_lock_take(&l, dir, "/mnt/x y", h, &e), 0);
	assert_int_equal(elsewhere(try_share), 2);
	dir_lock_release(&l);
	assert_int_equal(dir_lock_share(&l, dir, h, &e), 0);
	assert_int_equal(elsewhere(try_share), 1);
	assert_int_equal(elsewhere(look), 2);
	dir_lock_stopping(&l, "");
	dir_lock_release(&l);
	assert_int_equal(elsewhere(try_take), 1);
	free(h);
}

static void test_no_directory(void **state)
{
	(void)state;
	struct dir_lock l;
	struct dir_holder *h = calloc(1, sizeof *h);
	struct err e = ERR_INIT;
	assert_int_equal(dir_lock_take(&l, "/nonexistent/dir", "", h, &e), ERR_NOT_FOUND);
	assert_int_equal(dir_lock_holder("/nonexistent/dir", h, &e), 0);
	dir_lock_release(&l);
	free(h);
}

static void test_topic_names_that_collide(void **state)
{
	(void)state;
	assert_true(topic_names_collide("a.b", "a_b") && topic_names_collide("._", "__"));
	assert_false(topic_names_collide("a.b", "a.b") || topic_names_collide("a.b", "a_bc") || topic_names_collide("a.b", "a-b") || topic_names_collide("a.b_c", "a_bdc"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_names),
		T(test_deleted_names),
		T(test_topic_names),
		T(test_topic_names_that_collide),
		T(test_uuids),
		T(test_meta),
		T(test_damaged_meta),
		T(test_partition_metadata),
		T(test_lock),
		T(test_killed_holder),
		T(test_lock_on_a_full_disk),
		T(test_shared_lock),
		T(test_no_directory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
