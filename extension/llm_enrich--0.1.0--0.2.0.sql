\echo Use "ALTER EXTENSION llm_enrich UPDATE" to load this file. \quit

-- Whatever extension/parts has and 0.1.0 had not, in the order of the parts. It grows with each
-- change; what an installation of 0.1.0 becomes is compared with a new one by test 345.
