# How the tests are run; included by the top Makefile. tests/README.md says what they are.

# Debian's pytest and its python: `make deps` installs both.
pytest  := /usr/bin/python3 -m pytest tests
# Without -j on the command line the builds still use all processors.
submake  = +$(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

.PHONY: check-builds check-long-builds
check-builds:
	$(submake) BUILD=plain layers binaries
	$(submake) BUILD=asan check-units
	$(submake) BUILD=tsan check-units
check-long-builds: check-builds
	$(submake) BUILD=asan binaries
	$(submake) BUILD=tsan binaries

check: check-builds
	$(pytest) -m "not long"

check-long: check-long-builds
	SPOOLFS_TEST_BUILDS="plain asan tsan" $(pytest)
