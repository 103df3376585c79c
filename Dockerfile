# PostgreSQL with llm_enrich. Used like postgres:17, on whose image it is built:
#
#     docker build --build-arg PG_MAJOR=17 -t llm_enrich .
#     docker run -e POSTGRES_PASSWORD=… -v /path/to/openai.key:/etc/postgresql/openai.key:ro llm_enrich
#
# The key file must be readable for the container's user postgres. A cluster that the image makes preloads the
# extension, whatever the command; one that was made before needs shared_preload_libraries = 'llm_enrich'.
ARG PG_MAJOR=15

# Compiler and headers stay behind in this stage.
FROM postgres:${PG_MAJOR} AS build
RUN apt-get update \
	&& apt-get install -y --no-install-recommends build-essential libcurl4-openssl-dev "postgresql-server-dev-$PG_MAJOR"
COPY Makefile llm_enrich.control /src/
COPY src /src/src/
COPY extension /src/extension/
ENV PG_CONFIG=/usr/lib/postgresql/$PG_MAJOR/bin/pg_config
RUN make -C /src -j"$(nproc)" && make -C /src install DESTDIR=/out

# The certificates are what https is checked with. initdb begins with the sample.
FROM postgres:${PG_MAJOR}
RUN apt-get update \
	&& apt-get install -y --no-install-recommends libcurl4 ca-certificates \
	&& rm -rf /var/lib/apt/lists/* \
	&& echo "shared_preload_libraries = 'llm_enrich'" >>"/usr/share/postgresql/$PG_MAJOR/postgresql.conf.sample"
COPY --from=build /out /
