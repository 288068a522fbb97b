#include "tests/unit/log_fixture.h"

#include "store/scan.h"

/* Batch by batch through a file, with windows of any size; and what is found behind damage. */

enum { MOST = 200 };

static char path[64];
static int fd;
static struct record_set set;
static uint32_t begins[MOST + 1];
static int64_t offsets[MOST + 1];

static void make(size_t batches, size_t most)
{
	int64_t offset = 0;
	record_set_init(&set);
	for (size_t i = 0; i < batches; i++) {
		size_t bytes, taken;
		char *text = make_lines(1 + below(10), most, &bytes);
		struct batch_style style = fx_style((enum codec)below(CODEC_COUNT));
		assert_int_equal(record_set_add_lines(&set, &style, text, bytes, 1, &taken, NULL), 0);
		struct batch_meta *m = &set.batch[set.batch_count - 1];
		assert_int_equal(set.batch_count, i + 1);
		be64_put(set.bytes.data + m->at, (uint64_t)offset);
		begins[i] = m->at;
		offsets[i] = offset;
		offset += m->last_offset_delta + 1;
		free(text);
	}
	begins[batches] = (uint32_t)set.bytes.len;
	offsets[batches] = offset;
	assert_int_equal(pwrite(fd, set.bytes.data, set.bytes.len, 0), set.bytes.len);
	assert_int_equal(ftruncate(fd, (off_t)set.bytes.len), 0);
}

static int setup(void **state)
{
	(void)state;
	strcpy(path, "/tmp/spoolfs-scan-XXXXXX");
	fd = mkstemp(path);
	return fd < 0;
}

static int teardown(void **state)
{
	(void)state;
	io_set_hook(NULL, NULL);
	record_set_release(&set);
	close(fd);
	return unlink(path);
}

static uint32_t size(void)
{
	return (uint32_t)set.bytes.len;
}

/* Both ways of going through, mixed, from each batch on. */
static void test_all_batches(void **state)
{
	(void)state;
	make(MOST, 300);
	for (size_t window = 1; window < 300000; window = window * 3 + below(50))
		for (size_t from = 0; from <= MOST; from += 1 + below(30)) {
			struct scan s;
			struct batch b;
			struct err e = ERR_INIT;
			const uint8_t *bytes;
			uint32_t position;
			scan_init(&s, fd, begins[from], size(), window > 200000 ? 0 : window);
			for (size_t i = from; i < MOST; i++) {
				bool header = below(3) == 0;
				assert_int_equal(header ? scan_next_header(&s, &b, &position, &e) : scan_next(&s, &b, &bytes, &position, &e), 1);
				assert_int_equal(position, begins[i]);
				assert_int_equal(b.base_offset, offsets[i]);
				assert_int_equal(s.at, begins[i + 1]);
				if (!header)
					assert_memory_equal(bytes, set.bytes.data + begins[i], begins[i + 1] - begins[i]);
			}
			assert_int_equal(scan_next(&s, &b, &bytes, &position, &e), 0);
			assert_int_equal(scan_next_header(&s, &b, &position, &e), 0);
			scan_release(&s);
			scan_release(&s);
		}
}

/* Where the file ends inside a batch, it ends before it, with an error that stays. */
static void test_cut_short(void **state)
{
	(void)state;
	make(5, 60);
	for (uint32_t end = 0; end <= size(); end++)
		for (int truncated = 0; truncated < 2; truncated++) {
			struct scan s;
			struct batch b;
			const uint8_t *bytes;
			uint32_t position;
			size_t whole = 0;
			if (truncated)
				assert_int_equal(ftruncate(fd, end), 0); /* the file is shorter than it is said to be */
			while (whole < 5 && begins[whole + 1] <= end)
				whole++;
			scan_init(&s, fd, 0, truncated ? size() : end, 1 + below(200));
			for (size_t i = 0; i < whole; i++)
				assert_int_equal(scan_next(&s, &b, &bytes, &position, NULL), 1);
			int want = end == (truncated ? size() : begins[whole]) ? 0 : ERR_CORRUPT;
			for (int again = 0; again < 2; again++) {
				struct err e = ERR_INIT;
				assert_int_equal(scan_next(&s, &b, &bytes, &position, &e), want);
				assert_int_equal(e.code, want);
				assert_int_equal(s.at, begins[whole]);
				/* without a place for the sentence an error is one as well */
				assert_int_equal(scan_next(&s, &b, &bytes, &position, NULL), want);
			}
			scan_release(&s);
			if (truncated) {
				assert_int_equal(ftruncate(fd, 0), 0);
				assert_int_equal(pwrite(fd, set.bytes.data, size(), 0), size());
			}
		}
}

/* A length that is not in the file takes no memory for itself. */
static void test_hostile_length(void **state)
{
	(void)state;
	make(2, 60);
	uint8_t length[4];
	struct scan s;
	struct batch b;
	const uint8_t *bytes;
	uint32_t position;
	be32_put(length, INT32_MAX);
	assert_int_equal(pwrite(fd, length, 4, 8), 4);
	scan_init(&s, fd, 0, size(), 100);
	assert_int_equal(scan_next(&s, &b, &bytes, &position, NULL), ERR_CORRUPT);
	assert_true(s.cap <= size());
	scan_release(&s);
}

static ssize_t fail_reads(void *arg, enum io_call call, const char *name, int f, size_t bytes)
{
	(void)arg;
	(void)name;
	(void)f;
	(void)bytes;
	return call == IO_READ ? -EIO : 0;
}

static void test_io_error(void **state)
{
	(void)state;
	make(20, 300);
	struct scan s;
	struct batch b;
	const uint8_t *bytes;
	uint32_t position;
	struct err e = ERR_INIT;
	scan_init(&s, fd, 0, size(), 100);
	assert_int_equal(scan_next(&s, &b, &bytes, &position, &e), 1);
	io_set_hook(fail_reads, NULL);
	assert_int_equal(scan_next(&s, &b, &bytes, &position, &e), ERR_IO);
	assert_int_equal(scan_find_valid(fd, 0, size(), 0, &position, &e), ERR_IO);
	io_set_hook(NULL, NULL);
	assert_int_equal(scan_next(&s, &b, &bytes, &position, &e), 1);
	assert_int_equal(position, begins[1]);
	scan_release(&s);
}

static void test_find_valid(void **state)
{
	(void)state;
	make(40, 200);
	uint32_t position;
	struct err e = ERR_INIT;
	for (size_t i = 0; i < 40; i++)
		for (int k = 0; k < 10; k++) {
			uint32_t from = begins[i] + 1 + (uint32_t)below(begins[i + 1] - begins[i]);
			int found = scan_find_valid(fd, from, size(), 0, &position, &e);
			assert_int_equal(found, i < 39);
			if (found)
				assert_int_equal(position, begins[i + 1]);
			/* those below an offset do not count */
			size_t least = i + below(41 - i);
			found = scan_find_valid(fd, from, size(), offsets[least], &position, &e);
			size_t want = least > i ? least : i + 1;
			assert_int_equal(found, want < 40);
			if (found)
				assert_int_equal(position, begins[want]);
			/* nor one that is cut short, or whose crc does not match */
			assert_int_equal(scan_find_valid(fd, from, begins[i + 1] + 60, 0, &position, &e), 0);
		}
	for (size_t i = 1; i < 40; i++) {
		uint8_t byte = set.bytes.data[begins[i] + 61] ^ 1;
		assert_int_equal(pwrite(fd, &byte, 1, begins[i] + 61), 1);
	}
	assert_int_equal(scan_find_valid(fd, 1, size(), 0, &position, &e), 0);
	assert_int_equal(scan_find_valid(fd, 0, size(), 0, &position, &e), 1);
	assert_int_equal(position, 0);
	assert_int_equal(scan_find_valid(fd, size(), size(), 0, &position, &e), 0);
}

/* Over more than a window, and across its ends. */
static void test_find_valid_far_away(void **state)
{
	(void)state;
	make(3, 50);
	for (uint32_t far = (1 << 20) - 200; far < (1 << 20) + 200; far += 1 + (uint32_t)below(20)) {
		uint32_t position = 0;
		assert_int_equal(ftruncate(fd, 0), 0);
		assert_int_equal(pwrite(fd, set.bytes.data, size(), far), size());
		assert_int_equal(scan_find_valid(fd, 0, far + size(), 0, &position, NULL), 1);
		assert_int_equal(position, far);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_all_batches),
		T(test_cut_short),
		T(test_hostile_length),
		T(test_io_error),
		T(test_find_valid),
		T(test_find_valid_far_away),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
