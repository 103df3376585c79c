# PostgreSQL 15 with llm_enrich, preloaded. Used like postgres:15:
#
#     docker build -t llm_enrich .
#     docker run -e POSTGRES_PASSWORD=… -v /path/to/openai.key:/etc/postgresql/openai.key:ro llm_enrich
#
# The key file must be readable for the container's user postgres.

# Compiler and headers stay behind in this stage.
FROM postgres:15-bookworm AS build
RUN apt-get update \
	&& apt-get install -y --no-install-recommends build-essential libcurl4-openssl-dev "postgresql-server-dev-$PG_MAJOR"
COPY Makefile llm_enrich.control /src/
COPY src /src/src/
COPY extension /src/extension/
ENV PG_CONFIG=/usr/lib/postgresql/15/bin/pg_config
RUN make -C /src clean \
	&& make -C /src -j"$(nproc)" \
	&& make -C /src install DESTDIR=/out

# The certificates are what https is checked with.
FROM postgres:15-bookworm
RUN apt-get update \
	&& apt-get install -y --no-install-recommends libcurl4 ca-certificates \
	&& rm -rf /var/lib/apt/lists/*
COPY --from=build /out /
CMD ["postgres", "-c", "shared_preload_libraries=llm_enrich"]
