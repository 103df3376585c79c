# llm_enrich: LLM work over tables, as a property of the database.
# `make help` lists the targets. PG_CONFIG=/path/to/pg_config chooses the server.

EXTENSION  = llm_enrich
MODULE_big = llm_enrich

# Written once, in the control file; everything else reads it from there.
EXTVERSION := $(shell sed -n "s/^default_version *= *'\([^']*\)'.*/\1/p" llm_enrich.control)

SOURCES   := $(sort $(wildcard src/*/*.c))
SQL_PARTS := $(sort $(wildcard extension/parts/*.sql))

OBJS        = $(SOURCES:.c=.o)
DATA        = $(sort $(wildcard extension/llm_enrich--*--*.sql))
DATA_built  = llm_enrich--$(EXTVERSION).sql
SHLIB_LINK += -lcurl
EXTRA_CLEAN = tmp_check tmp_prefix results regression.diffs regression.out llm_enrich--*.sql src/*/*.o src/*/*.bc src/.made-with \
              llm_enrich-*.zip

# Clean with gcc 12 and clang 14 on the headers of PostgreSQL 15. A warning is an
# error only on request, so that a newer compiler never breaks a packager's build.
LLM_WARNINGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers \
               -Wshadow -Wstrict-prototypes -Wold-style-definition -Wnull-dereference -Wformat=2 -Wvla
ifeq ($(LLM_WERROR),1)
LLM_WARNINGS += -Werror
endif
# LLM_SANITIZE=undefined or =address: the first fault ends the process with a report (script/sanitize).
# Our own assertions are checked, too, whatever the server does.
LLM_SANITIZER = $(filter undefined address,$(LLM_SANITIZE))
ifneq ($(LLM_SANITIZER),)
# The server is built with -fwrapv, under which no overflow would be a fault.
LLM_SANITIZE_FLAGS = -fsanitize=$(LLM_SANITIZER) -fno-sanitize-recover=$(LLM_SANITIZER) -fno-omit-frame-pointer -fno-wrapv \
                     -DUSE_ASSERT_CHECKING=1
SHLIB_LINK += -fsanitize=$(LLM_SANITIZER)
endif
# override: so that `make PG_CFLAGS=-DUSE_ASSERT_CHECKING` adds to these instead of replacing them
override PG_CFLAGS := $(LLM_WARNINGS) $(LLM_SANITIZE_FLAGS) $(PG_CFLAGS)
# here, since bitcode is made without PG_CFLAGS
override PG_CPPFLAGS := -I$(or $(srcdir),.)/src -DLLM_ENRICH_VERSION='"$(EXTVERSION)"' $(PG_CPPFLAGS)

# No bitcode by default: it needs the very clang the server was built with, and the
# time goes into waiting for a provider. `make with_llvm=yes` builds it all the same.
ifneq ($(origin with_llvm),command line)
override with_llvm := no
endif

# installcheck: a running server that preloads llm_enrich
REGRESS        = $(patsubst sql/%.sql,%,$(sort $(wildcard sql/*.sql)))
REGRESS_OPTS   = --load-extension=llm_enrich
ISOLATION      = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --load-extension=llm_enrich
TAP_TESTS      = 1
PROVE_TESTS    = $(sort $(wildcard test/t/*.pl))
PROVE_FLAGS   += -I test/t

PG_CONFIG ?= pg_config

ifneq ($(filter check,$(MAKECMDGOALS)),)

# PGXS has a check target of its own, which only says that it is not supported. Ours
# stands in for it: when it is asked for, PGXS is not read, and other goals go first
# through a make of their own.
OTHER_GOALS := $(filter-out check,$(MAKECMDGOALS))
.PHONY: check $(OTHER_GOALS)
check: $(OTHER_GOALS)
	@PG_CONFIG='$(PG_CONFIG)' tools/check $(SUITE)
ifneq ($(OTHER_GOALS),)
$(OTHER_GOALS):
	@$(MAKE) --no-print-directory $@
endif

else

PGXS := $(shell $(PG_CONFIG) --pgxs)
ifeq ($(PGXS),)
$(error "$(PG_CONFIG)" does not run: install the server's development files (Debian: postgresql-server-dev-15) or set PG_CONFIG)
endif
include $(PGXS)

# Every object on every header: the tree is small, and a stale object costs more than a rebuild.
$(OBJS): $(wildcard src/*/*.h) Makefile llm_enrich.control src/.made-with

# Objects made with another sanitizer, or with none, are made again.
src/.made-with: made-with-what
	@echo 'sanitizer: $(or $(LLM_SANITIZER),none)' | cmp -s - $@ || echo 'sanitizer: $(or $(LLM_SANITIZER),none)' >$@

# The folder is named too, so that a part taken away is noticed.
$(DATA_built): $(SQL_PARTS) extension/parts llm_enrich.control
	cat $(SQL_PARTS) > $@.tmp && mv $@.tmp $@

.PHONY: lint format format-check chaos fuzz bench dist help clean-programs made-with-what

clean: clean-programs

clean-programs:
	@for dir in test/provider test/unit test/fuzz bench; do \
		[ ! -e $$dir/Makefile ] || $(MAKE) -s --no-print-directory -C $$dir clean; \
	done

lint:
	@PG_CONFIG='$(PG_CONFIG)' tools/lint

format:
	@tools/format

format-check:
	@tools/format --check

# The test of the suite, ten times as long.
chaos:
	@PG_CONFIG='$(PG_CONFIG)' LLM_CHAOS_TASKS=$${LLM_CHAOS_TASKS:-20000} tools/check tap 300_chaos

fuzz:
	@$(MAKE) -s --no-print-directory -C test/fuzz fuzz PG_CONFIG='$(PG_CONFIG)'

bench:
	@PG_CONFIG='$(PG_CONFIG)' bench/run $(BENCH)

dist:
	git archive --format=zip --prefix=llm_enrich-$(EXTVERSION)/ -o llm_enrich-$(EXTVERSION).zip HEAD

help:
	@echo 'make                build the library and the install script'
	@echo 'make install        install both into the server of PG_CONFIG'
	@echo 'make check          test in a private copy of that server (SUITE="regress NAME" for one)'
	@echo 'make installcheck   test on a running server that preloads llm_enrich'
	@echo 'make lint           every rule of tools/lint'
	@echo 'make format         rewrite the C files with clang-format 14 (format-check: only look)'
	@echo 'make chaos          everything killed all the while, for minutes (LLM_CHAOS_SEED=N for other dice)'
	@echo 'make fuzz           fuzz what reads answers, FUZZ_SECONDS=600 for each of FUZZ="answer json ..."'
	@echo 'make bench          measure against the simulated provider'
	@echo 'make dist           PGXN archive of the last commit'
	@echo 'make clean          remove what was built'

endif
