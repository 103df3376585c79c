-- Schemas: what we take, what we refuse by name, and how answers are checked.
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.spec(text, jsonb) RETURNS jsonb LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_spec';
CREATE FUNCTION pg_temp.chk(text, jsonb, text) RETURNS jsonb LANGUAGE C STRICT AS 'llm_enrich', 'llm_enrich_test_check';
-- is the schema taken? else the error in one line
CREATE FUNCTION pg_temp.schema(schema jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	PERFORM pg_temp.spec('extract', jsonb_build_object('schema', schema));
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(detail, ''), CASE WHEN SQLERRM !~ 'not supported' THEN nullif(hint, '') END);
END
$$;
-- is the value of a property taken?  else the fault, without the words that all have
CREATE FUNCTION pg_temp.ok(rules text, value text) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(replace(pg_temp.chk('extract', format('{"schema": {"type": "object", "properties": {"v": %s}}}', rules)::jsonb,
		format('{"v": %s}', value)) ->> 'fault', 'The answer is not what was asked for ', ''), 'ok')
$$;

-- every keyword that we take
SELECT pg_temp.schema('{"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "x", "$comment": "c", "title": "t", "description": "d",
	"default": {}, "examples": [1], "type": "object", "properties": {"a": {"type": ["string", "null"], "minLength": 1, "maxLength": 5, "format": "date"},
	"b": {"type": "number", "minimum": 0, "maximum": 10, "exclusiveMinimum": -1, "exclusiveMaximum": 11, "multipleOf": 0.5},
	"c": {"type": "array", "items": {"$ref": "#/$defs/d"}, "minItems": 1, "maxItems": 3, "uniqueItems": true},
	"d": {"anyOf": [{"const": 1}, {"enum": ["x", 2, null]}]}, "e": true},
	"required": ["a"], "additionalProperties": {"type": "string"}, "minProperties": 1, "maxProperties": 9,
	"$defs": {"d": {"type": "integer"}}, "definitions": {"e": {"$ref": "#"}}}');
-- a keyword that we do not check is refused by name, with its place
DO $$
BEGIN
	PERFORM pg_temp.spec('extract', '{"schema": {"type": "object", "properties": {"code": {"type": "string", "pattern": "^x"}}}}');
END
$$;
SELECT pg_temp.schema(jsonb_build_object('type', 'object', keyword, true)) FROM unnest(ARRAY['pattern', 'oneOf', 'allOf', 'not', 'if', 'prefixItems',
	'patternProperties', 'propertyNames', 'dependentRequired', 'contains', 'unevaluatedProperties', 'contentEncoding', 'nullable', 'Type', '$dynamicRef']) keyword;
SELECT pg_temp.schema('{"type": "object", "$defs": {"a/b": {"anyOf": [{"type": "string"}, {"oneOf": []}]}}}');
SELECT pg_temp.schema('{"type": "object", "properties": {"a": {"format": "hostname"}}}');
-- wrong forms
SELECT value, pg_temp.schema(value) FROM jsonb_array_elements('[
	[], "x", true, {}, {"type": "objekt"}, {"type": []}, {"type": 5}, {"type": "object", "properties": []}, {"type": "object", "properties": {"a": 5}},
	{"type": "object", "required": "a"}, {"type": "object", "required": [1]}, {"type": "object", "required": ["a", "a"]}, {"type": "object", "additionalProperties": 5},
	{"type": "object", "properties": {"a": {"items": [{"type": "string"}]}}}, {"type": "object", "properties": {"a": {"enum": []}}}, {"type": "object", "properties": {"a": {"enum": "x"}}},
	{"type": "object", "properties": {"a": {"minimum": "1"}}}, {"type": "object", "properties": {"a": {"exclusiveMinimum": true}}}, {"type": "object", "properties": {"a": {"multipleOf": 0}}},
	{"type": "object", "properties": {"a": {"minLength": -1}}}, {"type": "object", "properties": {"a": {"maxLength": 1.5}}}, {"type": "object", "properties": {"a": {"maxItems": 1e30}}},
	{"type": "object", "properties": {"a": {"uniqueItems": 1}}}, {"type": "object", "properties": {"a": {"anyOf": []}}}, {"type": "object", "properties": {"a": {"format": 1}}},
	{"type": "object", "properties": {"a": {"description": 1}}}, {"type": "object", "properties": {"a": {"$defs": {}}}},
	{"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}}, {"type": "object", "properties": {"a": {"$ref": "http://x/y"}}}, {"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}}]');
-- circles that never reach a value; recursion through values is fine
SELECT pg_temp.schema('{"type": "object", "$ref": "#"}');
SELECT pg_temp.schema('{"type": "object", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/a"}]}}}');
SELECT pg_temp.schema('{"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}}');
-- references by name: "~0" and "~1" stand for "~" and "/", a name may be in both sections
SELECT ref, pg_temp.schema(jsonb_build_object('type', 'object', '$ref', ref, '$defs', '{"a/b~c": {"type": "string"}, "": {}, "~1": {}, "é": {}, "aa": {}, "b": {}}'::jsonb,
	'definitions', '{"b": {}, "a": {}, "c": {}}'::jsonb)) FROM unnest(ARRAY['#/$defs/a~1b~0c', '#/$defs/', '#/$defs/~01', '#/$defs/é', '#/$defs/aa', '#/$defs/b', '#/definitions/b', '#/definitions/a',
	'#/$defs/a/b~0c', '#/$defs/a~1b~c', '#/$defs/a~1b~0', '#/$defs/~1', '#/$defs/~', '#/$defs/a', '#/definitions/aa', '#/$defs', '#/', '', '#a', '/$defs/b', '#/defs/b', '##/$defs/b']) ref;
SELECT pg_temp.chk('extract', '{"schema": {"type": "object", "properties": {"v": {"$ref": "#/$defs/b"}, "w": {"$ref": "#/definitions/b"}}, "$defs": {"b": {"type": "string"}}, "definitions": {"b": {"type": "null"}}}}', value) ->> 'fault'
FROM unnest(ARRAY['{"v": "x", "w": null}', '{"v": null}', '{"w": "x"}']) value;
-- to find what a reference names takes no longer for many definitions
CREATE FUNCTION pg_temp.took(keyword text) RETURNS interval LANGUAGE plpgsql AS $$
DECLARE
	schema jsonb := (SELECT jsonb_build_object('schema', jsonb_build_object('type', 'object', '$defs', '{"d0": {}}' || jsonb_object_agg('d' || i, jsonb_build_object(keyword, '#/$defs/d' || i - 1))))
		FROM generate_series(1, 4990) i);
	started timestamptz := clock_timestamp();
BEGIN
	PERFORM pg_temp.spec('extract', schema);
	RETURN clock_timestamp() - started;
END
$$;
SELECT min(pg_temp.took('$ref')) < 10 * min(pg_temp.took('title')) FROM generate_series(1, 10);
-- deep, and too many
SELECT pg_temp.schema((repeat('{"type": "object", "properties": {"a": ', 31) || '{}' || repeat('}}', 31))::jsonb);
SELECT pg_temp.schema(jsonb_build_object('type', 'object', 'properties', (SELECT jsonb_object_agg('p' || i, '{}'::jsonb) FROM generate_series(1, 4999) i)));
SELECT pg_temp.schema(jsonb_build_object('type', 'object', 'properties', (SELECT jsonb_object_agg('p' || i, '{}'::jsonb) FROM generate_series(1, 5000) i)));

-- rules and values
SELECT rules, value, pg_temp.ok(rules, value) FROM (VALUES
	('{"type": "string"}', '"x"'), ('{"type": "string"}', '1'), ('{"type": "integer"}', '1'), ('{"type": "integer"}', '1.0'), ('{"type": "integer"}', '1e2'), ('{"type": "integer"}', '1.5'),
	('{"type": "number"}', '1.5'), ('{"type": "boolean"}', 'false'), ('{"type": "boolean"}', '0'), ('{"type": "null"}', 'null'), ('{"type": ["string", "null"]}', 'null'),
	('{"type": ["string", "null"]}', '[]'), ('{"type": "array"}', '{}'), ('{"type": "object"}', '[]'), ('{}', '"anything"'), ('true', '1'), ('false', '1'),
	('{"enum": ["a", 1, null, {"x": [1]}]}', '"a"'), ('{"enum": ["a", 1, null, {"x": [1]}]}', '1.00'), ('{"enum": ["a", 1, null, {"x": [1]}]}', 'null'),
	('{"enum": ["a", 1, null, {"x": [1]}]}', '{"x": [1]}'), ('{"enum": ["a", 1, null, {"x": [1]}]}', '{"x": [2]}'), ('{"const": {"a": 1}}', '{"a": 1.0}'), ('{"const": {"a": 1}}', '{}'),
	('{"minimum": 0.1}', '0.1'), ('{"minimum": 0.1}', '0.09999999999999999999999'), ('{"maximum": 12345678901234567890}', '12345678901234567890'), ('{"maximum": 12345678901234567890}', '12345678901234567891'),
	('{"exclusiveMinimum": 1}', '1'), ('{"exclusiveMinimum": 1}', '1.0000000001'), ('{"exclusiveMaximum": 1}', '1.0'), ('{"multipleOf": 0.1}', '0.3'), ('{"multipleOf": 0.1}', '0.35'), ('{"multipleOf": 7}', '-14'),
	('{"minimum": 5}', '"text"'), ('{"minLength": 2}', '"日"'), ('{"minLength": 2}', '"日本"'), ('{"maxLength": 2}', '"äöü"'), ('{"maxLength": 2}', '"\ud83d\ude00x"'),
	('{"minItems": 1}', '[]'), ('{"maxItems": 1}', '[1, 2]'), ('{"uniqueItems": true}', '[1, "1", [1], {"a": 1}]'), ('{"uniqueItems": true}', '[{"a": 1, "b": 2}, 3, {"b": 2.0, "a": 1}]'),
	('{"items": {"type": "string"}}', '["a", "b"]'), ('{"items": {"type": "string"}}', '["a", 2]'), ('{"items": false}', '[]'), ('{"items": false}', '[1]'),
	('{"required": ["a", "b"]}', '{"a": 1}'), ('{"properties": {"a": {"type": "string"}}}', '{"a": 1}'), ('{"properties": {"a": {}}, "additionalProperties": false}', '{"a": 1, "b": 2}'),
	('{"additionalProperties": {"type": "integer"}}', '{"a": 1, "b": "x"}'), ('{"properties": {"a/b~c": {"type": "string"}}}', '{"a/b~c": 1}'),
	('{"minProperties": 1}', '{}'), ('{"maxProperties": 1}', '{"a": 1, "b": 2}'), ('{"anyOf": [{"type": "string"}, {"type": "integer"}]}', '1'), ('{"anyOf": [{"type": "string"}, {"type": "integer"}]}', 'null'),
	('{"anyOf": [{"type": "object", "properties": {"a": {"type": "string"}}}, {"type": "null"}]}', '{"a": 7}'),
	('{"format": "date"}', '"2024-02-29"'), ('{"format": "date"}', '"2023-02-29"'), ('{"format": "date"}', '"2023-2-9"'), ('{"format": "date"}', '""'), ('{"format": "time"}', '"23:59:60Z"'), ('{"format": "time"}', '"12:00:00.25+01:30"'),
	('{"format": "time"}', '"12:00"'), ('{"format": "time"}', '"12:00:00"'), ('{"format": "time"}', '"12:00:00.Z"'), ('{"format": "date-time"}', '"2024-01-31T12:00:00Z"'), ('{"format": "date-time"}', '"2024-01-31"'), ('{"format": "date-time"}', '"2024-01-31T25:00:00Z"'),
	('{"format": "uuid"}', '"123e4567-e89b-12d3-a456-426614174000"'), ('{"format": "uuid"}', '"123e4567e89b12d3a456426614174000"'), ('{"format": "email"}', '"a.b+c@example.org"'), ('{"format": "email"}', '"a@b"'), ('{"format": "email"}', '"a b@example.org"'), ('{"format": "email"}', '"a@b@c.de"'), ('{"format": "email"}', '"a@.de"'),
	('{"format": "email"}', '7')) v (rules, value);
-- the path of a fault
SELECT pg_temp.chk('extract', '{"schema": {"type": "object", "properties": {"items": {"type": "array", "items": {"type": "object", "properties": {"price": {"type": "number"}}}}}}}',
	'{"items": [{"price": 1}, {"price": 2}, {"price": "3"}]}');
SELECT pg_temp.chk('extract', '{"schema": {"type": "object"}}', '[]');
SELECT pg_temp.chk('extract', '{"schema": {"type": "object", "required": ["a"]}}', '{}');
-- it stays short
SELECT length(pg_temp.chk('extract', jsonb_build_object('schema', jsonb_build_object('type', 'object', 'properties', jsonb_build_object('a', jsonb_build_object('enum',
	(SELECT jsonb_agg(repeat('ä', i)) FROM generate_series(1, 100) i))))), jsonb_build_object('a', repeat('ö', 1000))::text) ->> 'fault');
-- nor do its keys break a line
SELECT pg_temp.chk('extract', '{"schema": {"type": "object", "additionalProperties": {"type": "integer"}}}', '{"x\nLOG:  y\u001b": "z"}') ->> 'fault';
-- references recurse with the answer
SELECT value, pg_temp.chk('extract', '{"schema": {"type": "object", "properties": {"v": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["v", "next"]}}', value)
FROM unnest(ARRAY['{"v": 1, "next": {"v": 2, "next": null}}', '{"v": 1, "next": {"v": 2, "next": {"v": "x", "next": null}}}', '{"v": 1, "next": {"v": 2}}']) value;
SELECT pg_temp.chk('extract', '{"schema": {"type": "object", "properties": {"a/b": {"$ref": "#/definitions/x~1y"}}, "definitions": {"x/y": {"type": "string"}}}}', '{"a/b": 1}');
-- alternatives within alternatives end, whatever they multiply to
SELECT pg_temp.chk('extract', '{"schema": {"type": "object", "properties": {"n": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}}, "$defs": {"n": {"type": "object",
	"properties": {"n": {"anyOf": [{"$ref": "#/$defs/n"}, {"$ref": "#/$defs/n", "minProperties": 1}, {"$ref": "#/$defs/n", "maxProperties": 5}]}}}}}}',
	repeat('{"n":', 60) || '1' || repeat('}', 60));
-- and so do many references on one level
SELECT pg_temp.chk('extract', jsonb_build_object('schema', jsonb_build_object('type', 'object', 'properties', '{"v": {"$ref": "#/$defs/d1"}}'::jsonb, '$defs',
	(SELECT jsonb_object_agg('d' || i, CASE WHEN i < 2000 THEN jsonb_build_object('$ref', '#/$defs/d' || i + 1) ELSE '{}' END) FROM generate_series(1, 2000) i))), '{"v": 1}');
-- work within one value counts, too: many alternatives, each of which would sort a long list or read a long string
SELECT pg_temp.chk('extract', jsonb_build_object('schema', jsonb_build_object('type', 'object', '$defs', jsonb_build_object('d', rule), 'properties',
	jsonb_build_object('v', jsonb_build_object('anyOf', (SELECT jsonb_agg('{"$ref": "#/$defs/d"}'::jsonb) FROM generate_series(1, 4900) i))))), answer)
FROM (VALUES ('{"uniqueItems": true}'::jsonb, '{"v": [' || repeat('1,', 11500) || '1]}'), ('{"maxLength": 5}', format('{"v": "%s"}', repeat('x', 210000))),
	('{"format": "email"}', format('{"v": "%s"}', repeat('x', 210000))), ('{"const": 0}', '{"v": 1}'),
	(jsonb_build_object('const', repeat('x', 210000)), '{"v": 1}'), (jsonb_build_object('enum', jsonb_build_array(repeat('x', 210000))), '{"v": 1}'),
	('{"enum": [0]}', '{"v": [' || repeat('0,', 11500) || '0]}'),
	(jsonb_build_object('multipleOf', ('0.' || repeat('3', 398))::numeric), '{"v": 1}')) v (rule, answer);
-- as long a list or string is fine where it is looked at a few times
SELECT pg_temp.chk('extract', '{"schema": {"type": "object", "properties": {"v": {"type": "array", "uniqueItems": true}, "w": {"maxLength": 300000}}}}',
	(SELECT format('{"v": [%s], "w": "%s"}', string_agg(i::text, ','), repeat('x', 210000)) FROM generate_series(1, 11500) i)) ? 'v';
-- numbers of a schema have no more digits than those of an answer
SELECT keyword, digits, pg_temp.schema(format('{"type": "object", "properties": {"a": {"%s": %s}}}', keyword, CASE keyword WHEN 'enum' THEN '[{"x": [' || number || ']}]' ELSE number END)::jsonb)
FROM unnest(ARRAY['multipleOf', 'minimum', 'const', 'enum', 'default', 'maxLength']) keyword,
	(VALUES ('398', '0.' || repeat('3', 398)), ('399', '0.' || repeat('3', 399)), ('3e-16000', '3e-16000'), ('1e131071', '1e131071')) v (digits, number);
-- numbers are exact, or a fault
SELECT value, pg_temp.chk('extract', '{"schema": {"type": "object"}}', format('{"v": %s}', value)) FROM unnest(ARRAY['1.50', '-0', '123456789012345678901234567890.123456789', '1e395', '1e396', '1e-394', '1e-395', '1E+2',
	'1e99999999999999999999', '1e-99999999999999999999', '0x10', '1.', '.5', '+1', '-', '1e', 'Infinity', 'tru', 'nullx', '1 2']) value;
SELECT pg_temp.chk('extract', '{"schema": {"type": "object"}}', format('{"v": 1%s}', repeat('0', 400)));
-- strings
SELECT pg_temp.chk('extract', '{"schema": {"type": "object"}}', value) FROM unnest(ARRAY['{"v": "\"\\\/\b\f\n\r\t\u00e4\ud83d\ude00"}', '{"v": "\x"}', '{"v": "\u12g4"}', '{"v": "\u12"}', '{"v": "\ud83d"}', '{"v": "\ude00\ud83d"}',
	'{"v": "open}', E'{"v": "line\nfeed"}', '{"\u0076": 1, "v": 2}', '{"v": {"a": {"b": 1, "c": 2, "b": 3}}}', '{"v": {"llm_enrich": 1}}', '{"\u006clm_enrich": 1}']) value;
-- depth and number of values
SELECT pg_temp.chk('extract', '{"schema": {"type": "object"}}', '{"v":' || repeat('[', 63) || repeat(']', 63) || '}') ? 'v';
SELECT pg_temp.chk('extract', '{"schema": {"type": "object"}}', '{"v":' || repeat('[', 64) || repeat(']', 64) || '}');
SELECT pg_temp.chk('extract', '{"schema": {"type": "object"}}', '{"v":' || repeat('[', 1000000) || '}');
SELECT jsonb_array_length(pg_temp.chk('extract', '{"schema": {"type": "object"}}', '{"v": [1' || repeat(',1', 499996) || ']}') -> 'v');
SELECT pg_temp.chk('extract', '{"schema": {"type": "object"}}', '{"v": [1' || repeat(',1', 500000) || ']}');
-- many keys and long lists cost n log n
SELECT (SELECT count(*) FROM jsonb_object_keys(pg_temp.chk('extract', '{"schema": {"type": "object"}}',
	(SELECT '{' || string_agg(format('"k%s": %s', i * 7919 % 100003, i), ',') || '}' FROM generate_series(1, 100000) i))));
SELECT jsonb_array_length(pg_temp.chk('extract', '{"schema": {"type": "object", "properties": {"v": {"uniqueItems": true}}}}',
	(SELECT '{"v": [' || string_agg(i::text, ',') || ']}' FROM generate_series(1, 100000) i)) -> 'v');
