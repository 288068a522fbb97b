# spoolfs: see README.md. `make` builds build/plain/spoolfs; BUILD=asan or BUILD=tsan the sanitizer builds.
#
#   make deps deps-check      what apt has to give: for the build, for the tests
#   make run                  a mount to play with
#   make check check-long    the tests: all but the long ones; all, in every build
#   make soak                 a cluster of three to which anything happens, MINUTES=10
#   make fuzz                 noise for whatever reads bytes from outside, FUZZ_SECONDS each
#   make bench               the speed and memory table of the README; BENCH=--wire: beside Apache Kafka
#   make install uninstall   under PREFIX (/usr/local), DESTDIR honoured

BUILD  ?= plain
PREFIX ?= /usr/local
DESTDIR ?=
V ?=

out     := build/$(BUILD)
version := $(shell sed -n 's/.*SPOOLFS_VERSION "\(.*\)".*/\1/p' fs/version.h)

warnings := -Wall -Wextra -Werror -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wvla \
	-Wwrite-strings -Wundef -Wformat=2 -Wimplicit-fallthrough -Wno-missing-field-initializers
# The fuzzers (`make fuzz`) are clang's; whose warnings count is gcc.
ifeq ($(BUILD),fuzz)
CC       := clang
warnings :=
endif
CFLAGS  ?= -O2 -g
flags   := -std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DFUSE_USE_VERSION=312 -I. -pthread $(warnings) \
	-fno-strict-aliasing -fstack-protector-strong -fno-plt
link    := -pthread
sanitize.plain :=
sanitize.asan  := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -O1
sanitize.tsan  := -fsanitize=thread -fno-omit-frame-pointer -O1
sanitize.fuzz  := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -O1
ifeq ($(origin sanitize.$(BUILD)),undefined)
$(error BUILD is plain, asan or tsan, not $(BUILD))
endif
flags += $(sanitize.$(BUILD))
link  += $(sanitize.$(BUILD))

libs_store   := -lzstd -llz4 -lz -lsnappy -lisal
libs_cluster := -ljansson -lzookeeper_mt $(libs_store)
libs_fs      := -lfuse3

Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-7s %s\n' '$(1)' '$(2)';)

objs = $(patsubst %.c,$(out)/%.o,$(wildcard $(1)/*.c))
store_objs   := $(call objs,store)
cluster_objs := $(call objs,cluster) $(call objs,cluster/wire) $(call objs,cluster/net) $(call objs,cluster/group) $(call objs,cluster/zk) $(call objs,cluster/control) $(call objs,cluster/replica) $(call objs,cluster/deliver) $(call objs,cluster/remote) $(call objs,cluster/api)
fs_objs      := $(call objs,fs)
units        := $(patsubst tests/unit/%.c,$(out)/unit/%,$(wildcard tests/unit/test_*.c))

.PHONY: all deps deps-check run check check-long check-units bench install uninstall clean binaries layers fuzzers
all: $(out)/spoolfs

$(out)/libstore.a: $(store_objs)
$(out)/libcluster.a: $(cluster_objs)
$(out)/libstore.a $(out)/libcluster.a:
	$(call say,AR,$@)rm -f $@ && ar rcs $@ $^

$(out)/spoolfs: $(fs_objs) $(out)/libcluster.a $(out)/libstore.a
	$(call say,LINK,$@)$(CC) $(link) $(LDFLAGS) -o $@ $^ $(libs_fs) $(libs_cluster)

# The same program with the fault hook of the tests in it (tests/lib/fault_hook.c says how it is driven).
$(out)/spoolfs-faults: $(fs_objs) $(out)/tests/lib/fault_hook.o $(out)/libcluster.a $(out)/libstore.a
	$(call say,LINK,$@)$(CC) $(link) $(LDFLAGS) -o $@ $^ $(libs_fs) $(libs_cluster)

# The direction of the layers: each of these links a library whole, without the ones above it.
layers: $(out)/layer-store $(out)/layer-cluster
	@! grep -nE '#include "(cluster|fs)/' store/*.[ch] && ! grep -nE '#include "fs/' cluster/*.[ch] cluster/*/*.[ch] && ! grep -n '#include "cluster/' cluster/wire/*.[ch] | grep -v '"cluster/wire/'
	@bad=$$(grep -l 'fuse_lowlevel.h' store/*.[ch] cluster/*.[ch] cluster/*/*.[ch] 2>/dev/null); [ -z "$$bad" ] || { echo "FUSE below fs: $$bad"; exit 1; }
$(out)/layer-store: $(out)/libstore.a
	$(call say,LINK,$@)echo 'int main(void) { return 0; }' | $(CC) $(link) -x c - -x none -o $@ \
		-Wl,--whole-archive $(out)/libstore.a -Wl,--no-whole-archive $(libs_store)
$(out)/layer-cluster: $(out)/libcluster.a $(out)/libstore.a
	$(call say,LINK,$@)echo 'int main(void) { return 0; }' | $(CC) $(link) -x c - -x none -o $@ \
		-Wl,--whole-archive $(out)/libcluster.a $(out)/libstore.a -Wl,--no-whole-archive $(libs_cluster)

# What a client tells brokers about itself.
$(out)/cluster/wire/client.o: flags += -DSOFTWARE_VERSION='"$(version)"'

$(out)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$@)$(CC) $(flags) $(CFLAGS) $(CPPFLAGS) -MMD -MP -c -o $@ $<

# C units: one program a module, linked with the libraries it may know.
$(out)/unit/%: $(out)/tests/unit/%.o $(out)/libcluster.a $(out)/libstore.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(link) $(LDFLAGS) -o $@ $^ -lcmocka $(libs_cluster)
# What measures a module by itself.
$(out)/bench/%: $(out)/tests/bench/%.o $(out)/libcluster.a $(out)/libstore.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(link) $(LDFLAGS) -o $@ $^ $(libs_cluster)
.SECONDARY:

# Programs that tests/wire sends to a broker.
talkers := $(patsubst tests/wire/%.c,$(out)/wire/%,$(wildcard tests/wire/*.c))
$(out)/wire/%: $(out)/tests/wire/%.o $(out)/libcluster.a $(out)/libstore.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(link) $(LDFLAGS) -o $@ $^ $(libs_cluster)

# What tests/cluster drives.
drivers := $(patsubst tests/cluster/%.c,$(out)/cluster-tests/%,$(wildcard tests/cluster/*.c))
$(out)/cluster-tests/%: $(out)/tests/cluster/%.o $(out)/libcluster.a $(out)/libstore.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(link) $(LDFLAGS) -o $@ $^ $(libs_cluster)

# Each tests/fuzz/fuzz_<what>.c is a fuzzer (tests/README.md).
fuzzers := $(patsubst tests/fuzz/%.c,$(out)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
$(out)/fuzz/%: $(out)/tests/fuzz/%.o $(out)/libcluster.a $(out)/libstore.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(link) $(LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(libs_cluster)
fuzzers: $(fuzzers)

binaries: $(out)/spoolfs $(out)/spoolfs-faults $(units) $(talkers) $(drivers)
check-units: $(units)

# What Debian 12 has to have: to build, to run, and (deps-check) for the tests, which bring in a real Kafka to compare with.
build_packages := gcc make libc6-dev libfuse3-dev fuse3 libzstd-dev liblz4-dev zlib1g-dev libsnappy-dev libisal-dev libjansson-dev libzookeeper-mt-dev uthash-dev
check_packages := libcmocka-dev libasan8 libubsan1 libtsan2 python3 python3-pytest python3-pytest-timeout python3-hypothesis \
	attr rsync procps psmisc iproute2 xz-utils mandoc maven openjdk-17-jre-headless clang libclang-rt-dev llvm \
	python3-venv kcat golang-go librdkafka-dev zookeeper
root := $(if $(filter-out 0,$(shell id -u)),sudo)
install_packages = $(root) env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends
deps:
	$(install_packages) $(build_packages)
deps-check: deps
	$(install_packages) $(check_packages)

run: all
	@SPOOLFS=$(out)/spoolfs examples/play.sh

bench: all
	tests/bench/bench.py $(out)/spoolfs $(BENCH)

man_pages := $(wildcard fs/man/*.1)
$(out)/spoolfs.properties.5: $(out)/spoolfs
	$< config --man >$@
install: all $(out)/spoolfs.properties.5
	install -D -m 755 $(out)/spoolfs $(DESTDIR)$(PREFIX)/bin/spoolfs
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man1 $(man_pages)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man5 $(out)/spoolfs.properties.5
	install -d $(DESTDIR)/sbin && ln -sf $(PREFIX)/bin/spoolfs $(DESTDIR)/sbin/mount.fuse.spoolfs
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/spoolfs $(DESTDIR)$(PREFIX)/share/man/man5/spoolfs.properties.5 $(DESTDIR)/sbin/mount.fuse.spoolfs
	rm -f $(patsubst fs/man/%,$(DESTDIR)$(PREFIX)/share/man/man1/%,$(man_pages))

-include $(patsubst %.o,%.d,$(store_objs) $(cluster_objs) $(fs_objs)) $(wildcard $(out)/tests/*/*.d)

include tests/check.mk

clean:
	rm -rf build
