-- Functions that give more than jsonb: their arguments, their words for the model, and which
-- answers are taken.  The pure rooms are reached through functions for tests (src/test_api.c).
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.spec(text, jsonb) RETURNS jsonb LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_spec';
CREATE FUNCTION pg_temp.load(text, jsonb) RETURNS jsonb LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_load';
CREATE FUNCTION pg_temp.chk(text, jsonb, text) RETURNS jsonb LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_check';
-- the error of a call, in one line
CREATE FUNCTION pg_temp.refused(op text, args jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	PERFORM pg_temp.spec(op, args);
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(detail, ''), nullif(hint, ''));
END
$$;

-- filter
SELECT pg_temp.spec('filter', '{"condition": "it is spam"}');
SELECT pg_temp.load('filter', pg_temp.spec('filter', '{"condition": "it is \"spam\"\n", "instructions": "Mail of a shop."}'));
SELECT args, pg_temp.refused('filter', args) FROM jsonb_array_elements('[{}, {"condition": " \n"}, {"condition": "x", "labels": ["a"]},
	{"condition": "x", "criterion": "y"}]') args;
SELECT length(pg_temp.refused('filter', jsonb_build_object('condition', repeat('ä', 10001))));
SELECT answer, pg_temp.chk('filter', '{"condition": "x"}', answer) FROM unnest(ARRAY['{"match": true}', '```json {"match":false}```', '{"match": null}',
	'{"match": "true"}', '{"match": true, "why": "x"}', '{}', 'true', 'yes']) answer;
SELECT pg_temp.spec('filter', '{"condition": "x", "examples": [{"input": "a", "output": true}, {"input": "b", "output": {"match": false}}]}');
SELECT pg_temp.refused('filter', '{"condition": "x", "examples": [{"input": "a", "output": "yes"}]}');

-- score
SELECT pg_temp.spec('score', '{"criterion": "urgency"}');
SELECT pg_temp.load('score', pg_temp.spec('score', '{"criterion": "urgency", "min": -2.5, "max": 1e3}'));
SELECT args, pg_temp.refused('score', args) FROM jsonb_array_elements('[{}, {"criterion": ""}, {"criterion": "x", "min": 1}, {"criterion": "x", "min": 2},
	{"criterion": "x", "max": 0}, {"criterion": "x", "min": -1e300, "max": 1e300}]') args;
SELECT answer, pg_temp.chk('score', '{"criterion": "x", "min": 0, "max": 10}', answer) FROM unnest(ARRAY['{"score": 7}', '{"score": 0}', '{"score": 10.0}',
	'{"score": 0.1234567890123456789}', '{"score": 1e-9}', '{"score": 10.000000000000000000001}', '{"score": -0.1}', '{"score": "7"}', '{"score": null}', '{"score": 7, "n": 1}', '7']) answer;
SELECT pg_temp.chk('score', '{"criterion": "x", "min": 0, "max": 1}', '{"score": 0.' || repeat('0', 350) || '1}');
SELECT pg_temp.refused('score', '{"criterion": "x", "examples": [{"input": "a", "output": 2}]}');

-- translate
SELECT pg_temp.spec('translate', '{"to_language": "de"}');
SELECT pg_temp.load('translate', pg_temp.spec('translate', '{"to_language": "French", "from_language": "German"}'));
SELECT args, pg_temp.refused('translate', args) FROM jsonb_array_elements('[{}, {"to_language": "\t"}, {"from_language": "de"}]') args;
SELECT length(pg_temp.refused('translate', jsonb_build_object('to_language', repeat('ä', 101))));
SELECT answer, pg_temp.chk('translate', '{"to_language": "de"}', answer) FROM unnest(ARRAY['{"translation": "Hallo\n"}', '{"translation": " "}',
	'{"translation": 5}', '{"text": "Hallo"}', 'Hallo']) answer;

-- redact
CREATE FUNCTION pg_temp.redacted(text, jsonb, text, text) RETURNS jsonb LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_check';
SELECT pg_temp.spec('redact', '{}');
SELECT pg_temp.load('redact', pg_temp.spec('redact', '{}')) ->> 'system';
SELECT pg_temp.load('redact', pg_temp.spec('redact', '{"kinds": ["email", "license plate", "date_of_birth"]}')) ->> 'system';
SELECT args, pg_temp.refused('redact', args) FROM jsonb_array_elements('[{"kinds": []}, {"kinds": ["name", null]}, {"kinds": ["name", " "]}, {"kinds": ["a", "b", "a"]},
	{"kinds": ["date_of_birth", "Date of Birth"]}, {"kinds": ["straße"]}, {"kinds": ["[x]"]}, {"kinds": ["IP address", "name"]}]') args;
-- the answer is the input but for placeholders
SELECT answer, pg_temp.redacted('redact', '{}', jsonb_build_object('redacted', answer)::text, input) AS checked
FROM (VALUES
	('Call Anna at 030 1234567.', 'Call [NAME] at [PHONE].'),
	('Call Anna at 030 1234567.', 'Call Anna at 030 1234567.'),
	('Call Anna at 030 1234567.', '[NAME]'),
	('Call Anna at 030 1234567.', 'Call [NAME] at [PHONE]'),
	('Call Anna at 030 1234567.', 'Call [NAME] on [PHONE].'),
	('Call Anna at 030 1234567.', 'Please call [NAME] at [PHONE].'),
	('Call Anna at 030 1234567.', 'Call [NAME] at [PHONE]. Thanks.'),
	('Call Anna at 030 1234567.', 'Call Anna'),
	('Call Anna at 030 1234567.', 'Call [PERSON] at [PHONE].'),
	('Call Anna at 030 1234567.', 'Call [NAME][EMAIL] at [PHONE].'),
	('Call Anna at 030 1234567.', 'Call Anna[NAME] at 030 1234567.'),
	('Call Anna at 030 1234567.', 'call [NAME] at [PHONE].'),
	(E'\n  Anna wrote \n', '[NAME] wrote'),
	('Ärger mit Jürgen Öz', 'Ärger mit [NAME]'),
	('ä', '[NAME]'),
	('ä', '[NAME][NAME]'),
	('aaaaab', '[NAME]aab'),
	('abcabcabd', '[NAME]abcabd'),
	('abab', '[NAME]ab[EMAIL]b'),
	('[NAME] is Anna', '[NAME] is [NAME]'),
	('see [1] and Bob', 'see [1] and [NAME]'),
	('see [1] and Bob', 'see [2] and [NAME]')) v(input, answer);
-- what has a form that a program knows must be gone
SELECT input, pg_temp.redacted('redact', spec, jsonb_build_object('redacted', input)::text, input) ->> 'fault'
FROM (VALUES
	('{}'::jsonb, 'write to a.b+c@mail.example.com now'), ('{}', 'a@b'), ('{}', '@ x@ y @z.com'), ('{}', 'é@example.com'), ('{"kinds": ["name"]}', 'a@example.com'),
	('{}', 'pay 4111 1111 1111 1111 today'), ('{}', '4111-1111-1111-1112'), ('{}', '5500000000000004'), ('{}', '1700000000000'), ('{}', 'x4111111111111111'), ('{"kinds": ["email"]}', '4111111111111111'),
	('{}', 'DE89 3704 0044 0532 0130 00 for ANNA'), ('{}', 'GB82WEST12345698765432'), ('{}', 'DE88 3704 0044 0532 0130 00'), ('{}', 'XDE89370400440532013000')) v(spec, input);
SELECT pg_temp.redacted('redact', '{}', answer, 'Anna') FROM unnest(ARRAY['{"redacted": 5}', '{"text": "[NAME]"}', '[NAME]']) answer;
SELECT pg_temp.spec('redact', '{"kinds": ["name"], "examples": [{"input": "Hi Bob", "output": "Hi [NAME]"}]}');
SELECT pg_temp.refused('redact', '{"kinds": ["name"], "examples": [{"input": "Hi Bob", "output": "Hello [NAME]"}]}');
-- time is linear, whatever the texts
SELECT pg_temp.redacted('redact', '{}', jsonb_build_object('redacted', '[NAME]' || repeat('a', 300000) || 'b[NAME]')::text, repeat('a', 600000));
SELECT pg_temp.redacted('redact', '{}', jsonb_build_object('redacted', repeat('[NAME]a', 100000))::text, repeat('ba', 100000)) = jsonb_build_object('redacted', repeat('[NAME]a', 100000));
SELECT pg_temp.redacted('redact', '{}', jsonb_build_object('redacted', repeat('@', 300000))::text, repeat('@', 300000)) IS NOT NULL,
	pg_temp.redacted('redact', '{}', jsonb_build_object('redacted', repeat('AA00 ', 100000))::text, repeat('AA00 ', 100000)) IS NOT NULL;
SELECT pg_temp.redacted('redact', '{}', jsonb_build_object('redacted', '[NAME]')::text, repeat('long ', 1000)) ->> 'fault';

-- sentiment
SELECT pg_temp.spec('sentiment', '{}'), pg_temp.spec('sentiment', '{"aspects": ["price", "service"]}');
SELECT pg_temp.load('sentiment', pg_temp.spec('sentiment', '{}'));
SELECT pg_temp.load('sentiment', pg_temp.spec('sentiment', '{"aspects": ["price", "service"]}'));
SELECT pg_temp.refused('sentiment', '{"aspects": ["price", "price"]}'), pg_temp.refused('sentiment', '{"aspects": ["llm_enrich"]}');
SELECT answer, pg_temp.chk('sentiment', '{}', answer) FROM unnest(ARRAY['{"sentiment": "mixed"}', '{"sentiment": "good"}', '{"sentiment": null}', '{}',
	'{"sentiment": "mixed", "aspects": {}}']) answer;
SELECT answer, pg_temp.chk('sentiment', '{"aspects": ["price"]}', answer) FROM unnest(ARRAY['{"sentiment": "mixed", "aspects": {"price": "unknown"}}',
	'{"sentiment": "mixed"}', '{"sentiment": "mixed", "aspects": {}}', '{"sentiment": "mixed", "aspects": {"price": "bad"}}',
	'{"sentiment": "mixed", "aspects": {"price": "neutral", "color": "neutral"}}']) answer;

-- classify: descriptions, and none
SELECT pg_temp.load('classify', pg_temp.spec('classify', '{"labels": ["bug", "billing"], "descriptions": {"billing": "money", "bug": "it worked before"}, "allow_none": true}'));
SELECT pg_temp.load('classify', pg_temp.spec('classify', '{"allow_none": true}')) -> 'schema';
SELECT args, pg_temp.refused('classify', args) FROM jsonb_array_elements('[{"descriptions": {"a": "x"}}, {"labels": ["a"], "descriptions": {"b": "x"}}, {"labels": ["a"], "descriptions": {"a": " "}},
	{"labels": ["a"], "descriptions": {"a": 1}}, {"labels": ["a"], "descriptions": {}}, {"labels": ["a"], "descriptions": ["a"]}, {"labels": ["a"], "multi": true, "allow_none": true},
	{"labels": ["a"], "multi": true, "allow_none": false, "descriptions": {"a": "x"}}]') args;
SELECT answer, pg_temp.chk('classify', '{"labels": ["a"], "allow_none": true}', answer) FROM unnest(ARRAY['{"label": null}', '{"label": "a"}', '{"label": "b"}', '{}']) answer;
SELECT pg_temp.spec('classify', '{"labels": ["a"], "allow_none": true, "examples": [{"input": "x", "output": null}]}');

-- extract: the short form of a schema
SELECT pg_temp.spec('extract', '{"schema": {"product": "text", "amount": "number - total with tax", "on": "date", "lines": [{"item": "text"}], "to": {"city": "text"}}}');
SELECT pg_temp.spec('extract', '{"schema": {"type": "text", "n": "integer"}}') -> 'schema' -> 'required';
SELECT args, pg_temp.refused('extract', args) FROM jsonb_array_elements('[{"schema": {"a": "string"}}, {"schema": {"a": "number with tax"}}, {"schema": {"a": ["text", "text"]}}, {"schema": {"a": {"b": "xml"}}},
	{"schema": {"a": {}}}, {"schema": {"llm_enrich": "text"}}, {"schema": {}}, {"schema": {"type": "number"}}]') args;

-- extract: quotes
SELECT pg_temp.load('extract', pg_temp.spec('extract', '{"schema": {"name": "text"}, "options": {"quotes": true}}'));
SELECT pg_temp.spec('extract', '{"schema": {"type": "object"}, "options": {"quotes": false}}');
SELECT args, pg_temp.refused('extract', args) FROM jsonb_array_elements('[{"schema": {"type": "object"}, "options": {"quotes": true}}, {"schema": {"quotes": "text"}, "options": {"quotes": true}},
	{"schema": {"a": "text"}, "options": {"quotes": 1}}]') args;
SELECT pg_temp.refused('classify', '{"options": {"quotes": true}}');
SELECT answer, pg_temp.redacted('extract', pg_temp.spec('extract', '{"schema": {"name": "text", "n": "integer"}, "options": {"quotes": true}}'), answer, 'Ann is 37')
FROM unnest(ARRAY['{"name": "Ann", "n": 37, "quotes": {"name": "Ann", "n": "is 37"}}', '{"name": "Ann", "n": 37, "quotes": {"name": "ann", "n": "37"}}',
	'{"name": "Ann", "n": 37, "quotes": {"name": "Ann", "n": null}}', '{"name": "Ann", "n": null, "quotes": {"name": "Ann", "n": null}}', '{"name": "Ann", "n": null, "quotes": {"name": "", "n": null}}',
	'{"name": "Ann", "n": 37}', '{"name": "Ann", "n": 37, "quotes": {}}']) answer;

-- a schema from a composite type
CREATE SCHEMA shapes;
SET search_path = shapes, public;
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE DOMAIN small AS int CHECK (value < 100);
CREATE TYPE pos AS (item text, n small);
CREATE TABLE invoice (vendor text NOT NULL, total numeric, due date, seen timestamptz, m mood, moods mood[], positions pos[], first pos, paid boolean, u uuid, doc jsonb);
COMMENT ON COLUMN invoice.total IS 'with tax';
COMMENT ON TABLE invoice IS 'what we have to pay';
COMMENT ON DOMAIN small IS 'below a hundred';
SELECT jsonb_pretty(llm.schema_of(NULL::invoice));
SELECT pg_temp.refused('extract', jsonb_build_object('schema', llm.schema_of(NULL::invoice)));
SELECT jsonb_populate_record(NULL::invoice, '{"vendor": "Acme", "positions": [{"item": "nut", "n": 3}], "moods": ["good"]}');
SELECT llm.schema_of(NULL::int);
\set VERBOSITY terse
SET client_min_messages = warning;
DROP SCHEMA shapes CASCADE;
